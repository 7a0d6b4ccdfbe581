# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a load test tells capacity, what it does not, and that capacity plans with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.filter.load_test import load_test_calibration
from ansible_collections.c50k.stack.plugins.module_utils.calibration import (
    CalibrationError,
    Host,
    calibrate,
    read_usage,
)
from ansible_collections.c50k.stack.plugins.module_utils.capacity import CapacityError, plan

MIB = 1 << 20
USERS = {"tool": "k6", "title": "40 users, scenario mixed", "amount": 40, "counted": "users"}
HELD = {"tool": "hold", "title": "2,000 requests in flight, /", "amount": 2000, "counted": "requests in flight"}


def figures(**values: Any) -> dict[str, Any]:
    base = {"began": 100, "held_from": 110, "held_until": 130, "seconds_held": 20, "most_active": 2000}
    return {**base, "requests": 9000, "failed": 0, "requests_per_second": 600.0, **values}


def host(name: str, tier: str, busy: float = 0.5, growth: int = 0, cores: float = 2.0, rest: float = 0.0) -> Host:
    """So many busy cores at rest; so many more, and so many bytes more, from second 105 on."""
    used = {
        second: (1000 + rest * second + busy * max(0, second - 105), 500 * MIB + (growth if second >= 105 else 0))
        for second in range(95, 140)
    }
    return Host(name, tier, cores, used)


def fleet(**values: Any) -> list[Host]:
    return [
        host("app-1", "app_server", **values),
        host("app-2", "app_server", **values),
        host("lb-1", "load_balancer", **values),
        host("gen-1", "load_generator"),
    ]


def test_users_tell_what_a_core_answers() -> None:
    found = calibrate(USERS, figures(), fleet(), {"app_server": {"request_kib": 40}, "by": {"request_kib": "hold"}})
    assert found["measured"] == {
        "app_server": {"request_kib": 40, "requests_per_core": 600.0},
        "load_balancer": {"requests_per_core": 1200.0},
        "by": {"request_kib": "hold", "requests_per_core": "k6, 40 users, scenario mixed, 1970-01-01 00:01 UTC"},
    }
    assert found["says"][0] == ("app_server: 600 requests a second and core (600 a second kept 1.00 of 4 cores busy)")


@pytest.mark.parametrize("rest", [0.0, 0.05])
@pytest.mark.parametrize("rate", [100.0, 900.0])
def test_what_a_host_does_at_rest_is_no_work_of_the_users(rate: float, rest: float) -> None:
    hosts = fleet(busy=rate * 0.001, rest=rest)
    found = calibrate(USERS, figures(requests_per_second=rate), hosts, {})["measured"]
    assert found["app_server"] == {"requests_per_core": 500.0}
    assert found["load_balancer"] == {"requests_per_core": 1000.0}


def test_users_tell_no_memory_and_leave_what_is_known_of_it() -> None:
    found = calibrate(USERS, figures(), fleet(growth=40 * MIB), {"load_balancer": {"request_kib": 21}})["measured"]
    assert "request_kib" not in found["app_server"]
    assert found["load_balancer"]["request_kib"] == 21


def test_held_requests_tell_what_each_takes() -> None:
    found = calibrate(HELD, figures(), fleet(growth=40 * MIB), {})
    assert found["measured"]["app_server"] == {"request_kib": 41}  # 80 MiB by 2,000, rounded up
    assert found["measured"]["load_balancer"] == {"request_kib": 21}


@pytest.mark.parametrize(
    ("asked", "changed", "hosts", "said"),
    [
        (USERS, {"failed": 3}, fleet(), "3 of 9,000 requests failed"),
        (USERS, {"most_active": 39}, fleet(), "All 40 users were there for 20 s"),
        (USERS, {"seconds_held": 2}, fleet(), "set load_test_seconds to more"),
        (USERS, {}, [*fleet(), host("gen-2", "load_generator", busy=1.9)], "gen-2 was the limit, with 1.90 of its 2"),
        (USERS, {}, fleet(busy=0.005), "hosts of app_server had 0 cores busy before the test and 0.01 more with"),
        (USERS, {}, fleet(busy=0.25, rest=0.3), "set load_test_users to more .0.6 of a core tells something"),
        (USERS, {"held_from": 150, "held_until": 170}, fleet(), "gen-1 told nothing of what it used while all were"),
        (USERS, {"began": 96}, fleet(), "app-1 told nothing of what it used before the test"),
        (HELD, {}, fleet(growth=MIB), "held 2.0 MiB more with 2,000 requests"),
        (HELD, {"began": 90}, fleet(growth=40 * MIB), "app-1 told nothing of what it used before the test"),
        (USERS, {}, [host("gen-1", "load_generator")], "no app_server and no load_balancer"),
    ],
)
def test_what_tells_nothing_is_refused(
    asked: dict[str, Any], changed: dict[str, Any], hosts: list[Host], said: str
) -> None:
    with pytest.raises(CalibrationError, match=said):
        calibrate(asked, figures(**changed), hosts, {})


def test_half_a_line_is_left_out() -> None:
    assert read_usage(['{"time": 1, "cpu": 2.5, "memory": 3}', '{"time": 2, "cp']) == {1: (2.5, 3)}


def test_the_filter_reads_what_the_hosts_told() -> None:
    used = host("app-1", "app_server").used.items()
    told = "\n".join(json.dumps({"time": second, "cpu": cpu, "memory": memory}) for second, (cpu, memory) in used)
    hostvars = {"app-1": {"ansible_facts": {"capacity": {"cores": 2}}, "load_test_usage": {"stdout": told}}}
    found = load_test_calibration(figures(), USERS, {"app_server": ["app-1"]}, hostvars, {})
    assert found["measured"]["app_server"] == {"requests_per_core": 1200.0}
    with pytest.raises(AnsibleFilterError, match="capacity_measured stays as it was. 1 of 9,000"):
        load_test_calibration(figures(failed=1), USERS, {"app_server": ["app-1"]}, hostvars, {})


SMALL = {"cores": 2.0, "memory_bytes": 1 << 30, "open_files": 1_000_000}
SPEC = {"tiers": {"app_server": {"hosts": [SMALL, SMALL]}, "load_balancer": {"hosts": [SMALL]}}}


def test_capacity_plans_with_what_was_measured() -> None:
    before = plan(SPEC)
    assert "requests_per_second" not in before
    measured = {
        "app_server": {"request_kib": 32, "requests_per_core": 500},
        "load_balancer": {"request_kib": 32, "requests_per_core": 2000},
        "by": {"request_kib": "a test"},
    }
    after = plan({**SPEC, "measured": measured})
    assert after["requests_in_flight"] == 2 * before["requests_in_flight"]
    assert "32 KiB" in after["binding"]
    assert after["requests_per_second"] == 1400  # 0.7 of 4 cores
    assert "app_server: 0.7 of 2 x 2 cores, of which each answers 500 a second" in after["requests_per_second_binding"]


@pytest.mark.parametrize("measured", [None, {}, {"app_server": {}}])
def test_without_a_measure_nothing_changes(measured: Any) -> None:
    assert plan({**SPEC, "measured": measured}) == plan(SPEC)


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ("many", "capacity_measured is 'many'"),
        ({"redis": {}}, "capacity_measured.redis is {}: it has app_server and load_balancer"),
        ({"app_server": 7}, "capacity_measured.app_server is 7"),
        ({"app_server": {"request_mib": 7}}, "capacity_measured.app_server has request_mib: known are request_kib"),
        (
            {"app_server": {"request_kib": 0}},
            "capacity_measured.app_server.request_kib is 0: it must be a number from 1",
        ),
        ({"app_server": {"request_kib": True}}, "request_kib is True"),
        ({"load_balancer": {"requests_per_core": "900"}}, "load_balancer.requests_per_core is '900'"),
    ],
)
def test_what_cannot_be_is_named(measured: Any, said: str) -> None:
    with pytest.raises(CapacityError) as caught:
        plan({**SPEC, "measured": measured})
    assert said in str(caught.value)
