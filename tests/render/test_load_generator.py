"""The load generator's rules, the words that start a test, and the page that load_test.yml writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible.template import trust_as_template
from ansible_collections.c50k.stack.plugins.module_utils.load_report import Run, figures, plots
from render import ROLES, default_differences, load, problems, templar

PAGE = ROLES.parent / "playbooks/templates/load_test.html.j2"
HOSTILE = "<img src=x onerror=alert(1)>"
GIVEN = {"role_path": str(ROLES / "load_generator"), "load_generator_addresses": ["http://a", "http://b"]}


def test_defaults_and_specification_agree() -> None:
    assert default_differences("load_generator") == set()


@pytest.mark.parametrize("given", [{}, {"load_generator_tool": "k6", "load_generator_scenario": __file__}])
def test_good_variables_pass(given: dict) -> None:
    assert problems("load_generator", **GIVEN, **given) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"load_generator_tool": "wrk"}, "load_generator_tool is 'wrk'"),
        ({"load_generator_port": 80}, "load_generator_port is 80"),
        (
            {"load_generator_scenario": "/nowhere/mine.py"},
            "load_generator_scenario (load_test_scenario) is '/nowhere/mine.py'",
        ),
        ({"load_generator_limit": 0}, "load_generator_limit is 0"),
    ],
)
def test_bad_variables_are_named(given: dict, said: str) -> None:
    (message,) = problems("load_generator", **GIVEN, **given)
    assert said in message


def private(name: str, **given: Any) -> Any:
    return templar("load_generator", **GIVEN, **given).template(load("load_generator", "vars/main.yml")[name])


@pytest.mark.parametrize(("tool", "suffix"), [("locust", "py"), ("k6", "js")])
@pytest.mark.parametrize("scenario", ["seed", "mixed"])
def test_each_tool_has_both_scenarios(tool: str, suffix: str, scenario: str) -> None:
    file = private("__load_generator_file", load_generator_tool=tool, load_generator_scenario=scenario)
    assert Path(file) == ROLES / f"load_generator/files/scenarios/{scenario}.{suffix}"
    assert Path(file).is_file()


def test_a_scenario_of_ones_own_is_found_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    file = private("__load_generator_file", load_generator_tool="k6", load_generator_scenario="mine.js")
    assert Path(file) == tmp_path.resolve() / "mine.js"


def test_a_test_has_no_rights_and_an_end() -> None:
    words = private("__load_generator_service", load_generator_tool="locust", load_generator_limit=99)
    assert {"--property=DynamicUser=yes", "--property=RuntimeMaxSec=99"} <= set(words)
    assert "--setenv=ADDRESSES=http://a,http://b" in words
    assert "--working-directory=/srv/load_generator/locust/current" in words


def page(*samples: dict[str, Any], amount: int = 5, **plan: Any) -> str:
    run = Run()
    run.add("demo", [json.dumps(sample) for sample in samples])
    text = {"title": "5 users", "says": "k6", "counted": "users", "tool": "k6", "amount": amount, **plan}
    result = figures(run, amount)
    variables = {"load_test_plan": text, "load_test_fleet": "1 app_server", "load_test_result": result}
    variables["load_test_comparison"] = {"says": f"Against {text['title']}."}
    drawn = plots(result, text["counted"])
    source = trust_as_template(PAGE.read_text())
    return str(templar("load_generator", **variables, load_test_drawn=drawn).template(source))


def sample(second: int, active: int, **route: Any) -> dict[str, Any]:
    counts = {"requests": 3, "failed": 1, "ms": {"1.5": 2, "1.2e+03": 1}, **route}
    return {
        "time": second,
        "source": 1,
        "active": active,
        "routes": {f"GET /{HOSTILE}": counts},
        "failures": {f"GET /{HOSTILE}: no": 1},
    }


def test_the_page_shows_what_came_from_outside_as_text() -> None:
    text = page(sample(1_700_000_000, 5), title=HOSTILE, says=HOSTILE, counted=HOSTILE)
    assert HOSTILE not in text
    assert text.count("&lt;img") >= 8
    assert "2023-11-14 22:13:20 UTC" in text
    assert "1,200" in text


def test_every_value_on_the_page_is_escaped_or_drawn() -> None:
    values = re.findall(r"{{(.*?)}}", PAGE.read_text())
    safe = re.compile(r" *(number|ms)\(.*\) *$|.*\| e *$| plot\.svg $")
    assert [value for value in values if not safe.match(value)] == []


def test_the_page_asks_nobody_for_anything() -> None:
    text = page(sample(1, 5), sample(2, 5))
    assert not re.findall(r"(?:src|href)=(?!\"data:,\")", text.replace("src=x", ""))
    assert "url(" not in text and "@import" not in text and "<script" not in text


def test_what_is_held_has_no_times_on_its_page() -> None:
    text = page(sample(1, 5, ms={}), sample(2, 5, ms={}), tool="hold", counted="requests in flight")
    assert " % of " not in text
    assert "<td>–</td>" in text
