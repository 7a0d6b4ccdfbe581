# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alerts, in made-up fleets: each fires where it should, on what it should, and not where little is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.c50k.stack.tests.unit.monitoring.prometheus import run

ROOT = Path(__file__).parents[3]
RULES = sorted((ROOT / "roles/monitoring/files/rules").glob("*.yml"))
RUNBOOK = ROOT / "docs/alerts.md"
FLEETS: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "alerts.yml").read_text())


def alerts(path: Path) -> dict[str, dict[str, Any]]:
    """The alerts of a file of rules, by name."""
    groups = yaml.safe_load(path.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


ALERTS = {name: rule for path in RULES for name, rule in alerts(path).items()}


def case(alert: str, kind: str) -> dict[str, Any]:
    """A fleet as promtool tests it: on what the alert fires, by the labels of interest; or that it never did."""
    fleet = FLEETS[alert][kind]
    where = fleet.get("where", [])
    fired = f'ALERTS{{alertname="{alert}", alertstate="firing"}}'
    query = f"group by ({', '.join(where[0])}) ({fired})" if where else f"max_over_time({fired}[9h])"
    samples = [{"labels": "{" + ", ".join(f'{k}="{v}"' for k, v in on.items()) + "}", "value": 1} for on in where]
    return {
        "name": f"{alert} {kind}",
        "interval": fleet.get("interval", "15s"),
        "input_series": [{"series": name, "values": values} for name, values in fleet["series"].items()],
        "promql_expr_test": [{"expr": query, "eval_time": fleet.get("at", "10m"), "exp_samples": samples}],
    }


def test_the_rules_can_be_read() -> None:
    ended = run("promtool", ["check", "rules", "--lint-fatal", *map(str, RULES)], RULES[0].parent)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_alerts_fire_where_they_should(tmp_path: Path) -> None:
    for path in RULES:
        cases = [case(alert, kind) for alert in alerts(path) for kind in ("fires", "quiet")]
        tests = {"rule_files": [str(path)], "evaluation_interval": "15s", "tests": cases}
        (tmp_path / path.name).write_text(yaml.safe_dump(tests, width=4096))
    files = [str(tmp_path / path.name) for path in RULES]
    ended = run("promtool", ["test", "rules", *files], RULES[0].parent, tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_each_alert_has_fleets_and_a_section_of_the_runbook() -> None:
    sections = re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sorted(ALERTS) == sorted(FLEETS) == sorted(sections)
    assert all("where" in fleets["fires"] and "where" not in fleets["quiet"] for fleets in FLEETS.values())


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_where_and_what_to_do(alert: str) -> None:
    said = ALERTS[alert]["annotations"]
    assert said.keys() == {"summary", "description", "runbook_url"}
    assert said["runbook_url"] == "{{ externalURL }}/user/#" + alert
    # on one of several, of what its fleet fires on: which
    assert "$labels" in said["summary"] or FLEETS[alert]["fires"]["where"] == [{}]
    assert ALERTS[alert]["labels"]["severity"] in {"critical", "warning"}
