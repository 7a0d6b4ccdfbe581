# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a load test runs where, and what it refuses."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.filter.load_test import FilterModule
from ansible_collections.c50k.stack.plugins.module_utils.load_test import LOCAL_PORTS, MASTER, UNIT, plan
from hypothesis import given
from hypothesis import strategies as st


def tier(count: int, cores: float = 1.5, open_files: int = 20_000) -> dict[str, Any]:
    return {
        "hosts": [{"name": f"demo-load_generator-{n}", "address": f"10.0.5.{9 + n}"} for n in range(1, count + 1)],
        "capacity": [{"cores": cores, "open_files": open_files}] * count,
    }


def spec(tool: str, **changes: Any) -> dict[str, Any]:
    """What the playbook hands over by default, for a fleet that holds 50,000."""
    return {
        "tool": tool,
        "scenario": "mixed",
        "users": 100,
        "requests": 1000,
        "spawn_rate": None,
        "seconds": 30,
        "path": "/items/{id}/changes?timeout={seconds}",
        "status": 204,
        "addresses": ["http://192.0.2.20:80", "http://192.0.2.21:80"],
        "load_generator": tier(2),
        "port": 5557,
        "requests_in_flight": 50_000,
        "binding": "app_server: 1024 open files",
        "answer_timeout": 60,
        **changes,
    }


def commands(made: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Host, unit and words of all that runs."""
    return [(host, unit["name"], unit["command"]) for host, units in made["units"].items() for unit in units]


def option(command: list[str], name: str) -> str:
    (found,) = [word.partition("=")[2] for word in command if word.startswith(f"--{name}=")]
    return found


def test_locust_has_a_master_on_the_first_host_and_a_worker_for_each_core() -> None:
    made = plan(spec("locust", users="90"))
    (host, unit, master), *workers = commands(made)
    assert (host, unit) == ("demo-load_generator-1", MASTER)
    assert [(host, unit) for host, unit, _command in workers] == [(host, UNIT) for host in made["hosts"]]
    assert (option(master, "users"), option(master, "spawn-rate"), option(master, "run-time")) == ("90", "9", "40s")
    assert option(master, "expect-workers") == "4"
    for _host, _unit, worker in workers:
        assert (option(worker, "processes"), option(worker, "master-host")) == ("2", "10.0.5.10")
        assert option(worker, "master-port") == option(master, "master-bind-port") == "5557"
    assert made["limit"] > 40


@given(amount=st.integers(1, 50_000), count=st.integers(1, 9), rate=st.integers(1, 10_000))
def test_k6_and_the_holder_share_all_of_it(amount: int, count: int, rate: int) -> None:
    changes = {"load_generator": tier(count, open_files=1_000_000), "spawn_rate": rate, "answer_timeout": 10**6}
    held = [command for _host, _unit, command in commands(plan(spec("hold", requests=amount, **changes)))]
    shares = [int(option(command, "requests")) for command in held]
    assert sum(shares) == amount and max(shares) - min(shares) <= 1 and min(shares) >= 1
    assert sum(float(option(command, "rate")) for command in held) == pytest.approx(rate, rel=1e-4)

    segments = [command for _host, _unit, command in commands(plan(spec("k6", users=amount, **changes)))]
    edges = [option(command, "execution-segment").split(":") for command in segments]
    assert [start for start, _end in edges] == ["0", *(end for _start, end in edges[:-1])] and edges[-1][1] == "1"
    assert {Fraction(end) - Fraction(start) for start, end in edges} == {Fraction(1, len(shares))}


def test_the_first_request_still_waits_when_the_last_one_has_waited_long_enough() -> None:
    made = plan(spec("hold", requests=1000, spawn_rate=100, seconds=20))
    for _host, _unit, command in commands(made):
        assert option(command, "path") == "/items/{id}/changes?timeout=32"
        assert int(option(command, "timeout")) > 32
    assert made["limit"] > 10 + 32


@pytest.mark.parametrize(
    ("tool", "changes", "said"),
    [
        ("wrk", {}, "load_test_tool is 'wrk': it must be locust, k6, hold."),
        ("k6", {"users": "many"}, "load_test_users is 'many': it must be a whole number, at least 1."),
        ("k6", {"users": True}, "load_test_users is True"),
        ("k6", {"spawn_rate": 0}, "load_test_spawn_rate is 0"),
        ("locust", {"seconds": 4}, "load_test_seconds is 4: it must be a whole number, at least 5."),
        ("hold", {"requests": -1}, "load_test_requests is -1"),
        ("hold", {"status": "ok"}, "load_test_status is 'ok'"),
        ("hold", {"path": "items"}, "load_test_path is 'items'"),
        ("hold", {"path": "/a b"}, "load_test_path is '/a b'"),
        ("locust", {"addresses": ["192.0.2.20"]}, "load_test_address has '192.0.2.20'"),
        ("locust", {"addresses": ["http://a,http://b"]}, "load_test_address has"),
        ("hold", {"addresses": ["https://192.0.2.20"]}, "hold speaks HTTP without TLS alone"),
        ("locust", {"addresses": []}, "There is no front door."),
        ("locust", {"load_generator": tier(0)}, "Set fleet_tiers.load_generator.count and run site.yml."),
        (
            "locust",
            {"users": 60_000},
            "load_test_users is 60,000, each with one request in flight, and the fleet holds 50,000. What binds is "
            "app_server: 1024 open files.",
        ),
        (
            "hold",
            {"requests": 50_000, "spawn_rate": 1000},
            "as it takes 50 s to open 50,000 requests at 1,000 a second (load_test_spawn_rate), the first one waits "
            "for 82 s, and the load balancer ends it after 60 s. Set load_balancer_timeout_server to 112 or more",
        ),
        (
            "hold",
            {"requests": 250_000, "requests_in_flight": 250_000, "answer_timeout": 10**6},
            f"from one load generator {2 * LOCAL_PORTS:,} connections can go to 2 addresses. Set "
            "fleet_tiers.load_generator.count to 3 or more",
        ),
        (
            "k6",
            {"users": 40_000},
            "demo-load_generator-1 can open 19,800 files in 1 processes. Set fleet_tiers.load_generator.count to 3",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_variable_and_the_mend(tool: str, changes: dict, said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=re.escape(said)):
        FilterModule().filters()["load_test_plan"](spec(tool, **changes))


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(AnsibleFilterError) as error:
        FilterModule().filters()["load_test_plan"](spec("locust", users=0, seconds=0, addresses=["ftp://x"]))
    assert all(word in str(error.value) for word in ("load_test_users", "load_test_seconds", "load_test_address"))


def test_locust_opens_files_in_each_of_its_processes() -> None:
    plan(spec("locust", users=40_000, load_generator=tier(1, cores=4)))
