"""docs/load-balancers.md says of each option, engine and mode what the role does."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from render import problems, render

PAGE = Path(__file__).parents[2] / "docs" / "load-balancers.md"
TEMPLATES = {"haproxy": "haproxy.cfg.j2", "nginx": "nginx.conf.j2"}
GIVEN = {
    "load_balancer_backends": [{"name": "one", "address": "10.0.2.10"}],
    "load_balancer_maxconn": 9000,
    "load_balancer_open_files": 20000,
    "load_balancer_backend_maxconn": 4000,
    "__load_balancer_packed": {"results": [{"stdout": "0f3c9a"}]},
}


def rows() -> list[tuple[str, str, str, str]]:
    """Option, engine, what the page says of them, and what it says of the option in mode tcp."""
    row = r"^\| .+ \| `(load_balancer_\w+: .+?)` \| (.+?) \| (.+?) \| (.*?) ?\|$"
    found = re.findall(row, PAGE.read_text(), re.MULTILINE)
    return [
        (option, engine, said, tcp)
        for option, *both, tcp in found
        for engine, said in zip(TEMPLATES, both, strict=True)
    ]


def asked(option: str, folder: Path) -> dict[str, Any]:
    """The option's value, with a folder that is there."""
    return yaml.safe_load(option.replace("/home/me/service/static", str(folder)))


@pytest.mark.parametrize(("option", "engine", "said"), [row[:3] for row in rows()])
def test_the_page_tells_the_truth(option: str, engine: str, said: str, tmp_path: Path) -> None:
    given = {**GIVEN, "load_balancer_engine": engine}
    wanted = {**given, **asked(option, tmp_path)}
    refusals = problems("load_balancer", **wanted)
    assert bool(refusals) == said.startswith("refused"), refusals
    if not refusals:
        same = render("load_balancer", TEMPLATES[engine], **wanted) == render(
            "load_balancer", TEMPLATES[engine], **given
        )
        assert same == (said in ("the default", "is always one"))


@pytest.mark.parametrize(("option", "engine", "said", "tcp"), [row for row in rows() if row[3]])
def test_the_page_tells_the_truth_of_mode_tcp(option: str, engine: str, said: str, tcp: str, tmp_path: Path) -> None:
    wanted = {**GIVEN, "load_balancer_engine": engine, "load_balancer_mode": "tcp", **asked(option, tmp_path)}
    refusals = problems("load_balancer", **wanted)
    assert bool(refusals) == (said.startswith("refused") or tcp == "refused"), refusals


def test_every_option_of_the_page_is_there() -> None:
    assert len(rows()) == 2 * 14
    assert len([row for row in rows() if row[3]]) == 2 * 13
