# SPDX-License-Identifier: GPL-3.0-or-later
"""A load test with each tool, from two hosts at once, through the front door of the whole stack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import INVENTORY, SECRETS, Fleet, play

MEASURED = INVENTORY / "group_vars/all/capacity_measured.yml"
USERS = 40
HELD = 2000
SECONDS = 12  # twice the time between two looks, so that one of them sees all that is active


def run(tmp_path: Path, **wish: Any) -> tuple[dict[str, Any], str]:
    """Run a load test; return its figures, and what the run printed."""
    page = tmp_path / "load_test.html"
    done = play("load_test", load_test_seconds=SECONDS, load_test_report=str(page), stack_reports=str(tmp_path), **wish)
    assert done.returncode == 0, done.stdout
    assert page.read_text().count("<svg") >= 2
    return json.loads(page.with_suffix(".json").read_text())["result"], done.stdout


def check_that_all_hosts_took_part_and_keep_nothing(fleet: Fleet) -> None:
    for name in fleet.names("load_generator"):
        samples = [json.loads(line) for line in (SECRETS / f"load_test/{name}.jsonl").read_text().splitlines()]
        assert sum(counts["requests"] for sample in samples for counts in sample["routes"].values()) > 0, name
        host = fleet.host(name)
        assert host.check_output("systemctl list-units --all --plain --no-legend 'load-test*'") == ""
        # 1: none; the brackets keep the shell of this very command from being one
        assert host.run("pgrep -f '[l]ocust|[k]6|[h]old.py'").rc == 1
        assert not host.file("/srv/load_generator/samples").exists


@pytest.mark.parametrize("tool", ["locust", "k6"])
def test_users_of_the_mixed_scenario(fleet: Fleet, tmp_path: Path, tool: str) -> None:
    result, output = run(tmp_path, load_test_tool=tool, load_test_scenario="mixed", load_test_users=USERS)
    assert result["failed"] == 0
    assert result["most_active"] == USERS
    assert "GET /items/{id}" in {row["route"] for row in result["routes"]}
    assert f"users {USERS}   " in output
    check_that_all_hosts_took_part_and_keep_nothing(fleet)


def test_requests_that_stay_in_flight_tell_what_each_of_them_takes(fleet: Fleet, tmp_path: Path) -> None:
    try:
        result, output = run(
            tmp_path, load_test_tool="hold", load_test_requests=HELD, load_test_spawn_rate=1000, calibrate=True
        )
        measured = yaml.safe_load(MEASURED.read_text())["capacity_measured"]
    finally:
        MEASURED.unlink(missing_ok=True)
    assert (result["requests"], result["failed"], result["most_active"]) == (HELD, 0, HELD)
    assert result["seconds_held"] >= 5
    assert f"requests in flight {HELD:,}   " in output
    for tier in ("app_server", "load_balancer"):
        assert 4 <= measured[tier]["request_kib"] <= 256, measured
    last = json.loads((tmp_path / "load_tests.json").read_text())[-1]
    assert (last["tool"], last["most_active"]) == ("hold", HELD)
    check_that_all_hosts_took_part_and_keep_nothing(fleet)
    for tier in ("app_server", "load_balancer"):
        for host in fleet.tier(tier):
            assert host.run("ls /run/host_usage.* || systemctl is-active --quiet host-usage").rc != 0


def test_more_than_the_fleet_holds_is_refused_before_it_begins(tmp_path: Path) -> None:
    page = tmp_path / "load_test.html"
    done = play("load_test", load_test_users=100_000_000, load_test_report=str(page))
    assert done.returncode == 2
    assert "load_test_users is 100,000,000, each with one request in flight, and the fleet holds" in " ".join(
        done.stdout.split()
    )
    assert not page.exists()
