# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A load test against the last one of its shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.c50k.stack.plugins.filter.load_test import load_test_compared
from ansible_collections.c50k.stack.plugins.module_utils.load_history import KEPT, add, compare, entry

PLAN = {"tool": "k6", "title": "40 users, scenario mixed", "seconds": 30}


def figures(**values: Any) -> dict[str, Any]:
    base = {
        "began": 1_764_000_000,
        "requests": 9_000,
        "failed": 0,
        "most_active": 40,
        "seconds_held": 30,
        "requests_per_second": 300.0,
        "p50_ms": 4.0,
        "p95_ms": 20.0,
        "p99_ms": 50.0,
    }
    return {**base, **values}


def test_the_first_has_nothing_to_compare_with() -> None:
    compared = compare(entry(PLAN, figures(), "one host"), [])
    assert (compared["before"], compared["ratios"]) == (None, {})
    assert "no test of this shape" in compared["says"]


def test_ratios_against_the_last_of_the_same_shape() -> None:
    other = entry({**PLAN, "title": "50 users, scenario mixed"}, figures(requests_per_second=1.0), "one host")
    older = entry(PLAN, figures(requests_per_second=100.0), "one host")
    last = entry(PLAN, figures(failed=3), "one host")
    now = entry(PLAN, figures(requests_per_second=330.0, p99_ms=25.0), "one host")
    compared = compare(now, [older, last, other])
    assert compared["before"] == last
    assert compared["ratios"] == {"requests_per_second": 1.1, "p50_ms": 1.0, "p95_ms": 1.0, "p99_ms": 0.5}
    assert "requests/s 330 ÷ 300 = 1.10" in compared["says"]
    assert "p99 25 ÷ 50 = 0.50" in compared["says"]
    assert "failed 0, then 3" in compared["says"]
    assert "another" not in compared["says"]


def test_another_fleet_is_named() -> None:
    compared = compare(entry(PLAN, figures(), "two hosts"), [entry(PLAN, figures(), "one host")])
    assert "The fleet was another then: one host" in compared["says"]


def test_what_was_not_measured_has_no_ratio() -> None:
    before = entry(PLAN, figures(p50_ms=None, requests_per_second=0.0), "one host")
    assert compare(entry(PLAN, figures(), "one host"), [before])["ratios"] == {"p95_ms": 1.0, "p99_ms": 1.0}


def test_held_requests_compare_by_how_many_there_were() -> None:
    plan = {**PLAN, "tool": "hold"}
    compared = compare(entry(plan, figures(), ""), [entry(plan, figures(most_active=20), "")])
    assert compared["ratios"] == {"most_active": 2.0}


def test_the_oldest_go() -> None:
    history: list[dict[str, Any]] = []
    for number in range(KEPT + 5):
        history = add(entry(PLAN, figures(requests=number), ""), history)
    assert [one["requests"] for one in history] == list(range(5, KEPT + 5))


def test_the_file_is_read_and_grows(tmp_path: Path) -> None:
    file = tmp_path / "load_tests.json"
    first = load_test_compared(figures(), PLAN, "one host", str(file))
    file.write_text(json.dumps(first["history"]))
    second = load_test_compared(figures(p50_ms=8.0), PLAN, "one host", str(file))
    assert second["ratios"]["p50_ms"] == 2.0
    assert len(second["history"]) == 2


@pytest.mark.parametrize("text", ["{", "7", '[{"tool": "k6"}]', '["x"]'])
def test_a_file_that_is_something_else_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "load_tests.json"
    file.write_text(text)
    with pytest.raises(AnsibleFilterError, match=f"{file}.*Remove it"):
        load_test_compared(figures(), PLAN, "one host", str(file))
