# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Samples of a load test, added up and drawn."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from xml.etree import ElementTree

import pytest
from ansible_collections.c50k.stack.plugins.module_utils.load_report import (
    HEIGHT,
    POINTS,
    TICKS,
    WIDTH,
    Run,
    Tally,
    figures,
    nice_step,
    plot,
    plots,
    progress,
)
from hypothesis import given
from hypothesis import strategies as st

ROUTE = "GET /items/{id}"


def sample(
    time: int, active: int, times: dict[str, int] | None = None, failed: int = 0, source: int = 1, route: str = ROUTE
) -> str:
    times = times or {}
    counts = {"requests": sum(times.values()), "failed": failed, "ms": times}
    failures = {f"{route}: status 503": failed} if failed else {}
    line = {"time": time, "source": source, "active": active, "routes": {route: counts}, "failures": failures}
    return json.dumps(line)


def ran(**hosts: list[str]) -> Run:
    run = Run()
    for host, lines in hosts.items():
        run.add(host, lines)
    return run


def test_hosts_and_processes_are_added_up() -> None:
    one = [sample(100, 5, {"1.5": 2}), sample(100, 6, {"20": 1}, source=2), sample(101, 5, {"1.5": 1}, failed=1)]
    two = [sample(100, 7, {"1.5": 4}, route="GET /health"), sample(101, 8)]
    found = figures(ran(one=one, two=two), amount=13)
    assert (found["requests"], found["failed"], found["most_active"], found["seconds"]) == (8, 1, 18, 2)
    assert found["failed_share"] == 1 / 8
    assert [(route["route"], route["requests"], route["p100_ms"]) for route in found["routes"]] == [
        (ROUTE, 4, 20.0),
        ("GET /health", 4, 1.5),
    ]
    assert found["failures"] == [{"reason": f"{ROUTE}: status 503", "requests": 1}]
    assert [row["requests_per_second"] for row in found["over_time"]] == [7, 1]
    assert [row["failed_per_second"] for row in found["over_time"]] == [0, 1]


def test_a_process_that_skips_a_second_is_still_there_and_one_that_ended_is_not() -> None:
    run = ran(one=[sample(100, 5), sample(102, 6), sample(104, 0)], two=[sample(101, 10), sample(102, 10)])
    assert run.active_by_second() == {100: 5, 101: 15, 102: 16, 103: 6, 104: 0}


def test_how_long_all_of_them_were_there() -> None:
    lines = [sample(100 + second, active) for second, active in enumerate([9, 10, 10, 9, 10, 10, 10, 10, 0])]
    held = figures(ran(one=lines), amount=10)
    assert (held["seconds_held"], held["held_from"], held["held_until"]) == (3, 104, 107)
    assert figures(ran(one=lines), amount=10)["most_active"] == 10
    assert figures(ran(one=lines), amount=11)["seconds_held"] == 0


def test_the_rate_is_that_of_the_seconds_with_all_of_them() -> None:
    lines = [sample(100, 3, {"1": 3}), sample(101, 5, {"1": 7}), sample(102, 5, {"1": 8}), sample(103, 0, {"1": 1})]
    assert figures(ran(one=lines), amount=5)["requests_per_second"] == 7.5
    assert figures(ran(one=lines), amount=6)["requests_per_second"] == 0


def test_the_rate_is_that_of_the_longest_time_with_all_of_them() -> None:
    counts = [(5, 1), (5, 1), (4, 9), (5, 7), (5, 7), (5, 7)]
    lines = [sample(100 + second, active, {"1": ended}) for second, (active, ended) in enumerate(counts)]
    found = figures(ran(one=lines), amount=5)
    assert (found["held_from"], found["held_until"], found["requests_per_second"]) == (103, 105, 7)


def test_nothing_counted_is_an_error() -> None:
    with pytest.raises(ValueError, match="No load generator counted anything"):
        figures(ran(one=[]), 5)


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=300), st.integers(1, 100))
def test_a_percentile_is_the_least_that_holds_for_so_many(times: list[int], percent: int) -> None:
    tally = Tally()
    for time, count in Counter(times).items():
        tally.add(count, 0, {str(time): count})
    assert tally.percentile(percent) == sorted(times)[math.ceil(len(times) * percent / 100) - 1]


def test_nothing_measured_has_no_percentile() -> None:
    assert Tally(requests=3).percentile(50) is None


def test_progress_tells_of_the_last_seconds_that_all_hosts_have_told() -> None:
    one = [sample(100 + second, 10, {"1.5": 10}) for second in range(20)]
    two = [sample(100 + second, 10, {"40": 10}) for second in range(15)]
    said = progress(ran(one=one, two=two), "users").split("   ")
    assert [part.strip() for part in said if part] == [
        *("14 s", "users 20", "20 requests/s", "failed 0", ROUTE, "p50 1.5 ms", "p99 40 ms")
    ]
    assert progress(Run(), "users") == "nothing counted yet"


def test_progress_of_the_holder_has_no_times() -> None:
    assert progress(ran(one=[sample(100, 1234)]), "in flight").split("   ")[2:] == [
        *("in flight 1,234", "0 requests/s", "failed 0")
    ]


def test_the_times_are_those_of_the_most_used_route_as_others_wait_on_purpose() -> None:
    lines = [sample(100, 5, {"1.5": 5}), sample(100, 5, {"1e+04": 4}, route=f"{ROUTE}/changes")]
    assert progress(ran(one=lines), "users").endswith(f"9 requests/s   failed 0   {ROUTE}   p50 1.5 ms   p99 1.5 ms")
    row = figures(ran(one=lines), 5)["over_time"][0]
    assert row["routes"] == {
        ROUTE: {"p50_ms": 1.5, "p99_ms": 1.5},
        f"{ROUTE}/changes": {"p50_ms": 10_000.0, "p99_ms": 10_000.0},
    }


def test_a_long_test_has_no_more_points_than_can_be_seen() -> None:
    found = figures(ran(one=[sample(second, 1, {"2": 3}) for second in range(1000, 4601)]), 1)
    rows = found["over_time"]
    assert POINTS / 2 < len(rows) <= POINTS
    assert sum(row["requests_per_second"] for row in rows[:-1]) / (len(rows) - 1) == 3


def parsed(drawn: str) -> ElementTree.Element:
    return ElementTree.fromstring(drawn)


def test_a_plot_stays_inside_its_frame_and_leaves_gaps() -> None:
    values = [[1.0, 30.0, None, 0.0, 2.5], [None, None, 7.0, None, None]]
    paths = list(parsed(plot("Milliseconds", [0, 5, 10, 15, 20], values)).iter("path"))
    first, second = ([path.get("d") for path in paths if path.get("class") == f"line line{n}"] for n in (0, 1))
    assert (len(first), len(second)) == (2, 1)
    assert all(0 <= float(number) <= WIDTH for d in [*first, *second] for number in re.findall(r"[\d.]+(?= )", d))
    heights = [float(number) for d in first for number in re.findall(r" ([\d.]+)", d)]
    assert all(0 <= height <= HEIGHT for height in heights)
    # the highest value is nearest to the top
    assert heights.index(min(heights)) == 1


def test_what_is_drawn_is_text() -> None:
    drawn = plot('"><script>', [0], [[1.0]])
    assert parsed(drawn).get("aria-label").startswith('"><script>')


@given(st.floats(1e-3, 1e9))
def test_steps_are_round_and_few(most: float) -> None:
    step = nice_step(most)
    assert TICKS / 2.5 <= math.ceil(most / step * (1 - 1e-9)) <= TICKS
    assert f"{step:.0e}"[0] in "125"


def test_the_plots_of_a_test() -> None:
    users = figures(ran(one=[sample(100, 5, {"3": 1}, failed=1), sample(101, 5, {"3": 2})]), 5)
    drawn = plots(users, "users")
    assert [found["title"] for found in drawn] == [
        *("Users", "Requests a second", "Failed requests a second", f"{ROUTE}, milliseconds")
    ]
    assert drawn[3]["lines"] == ["p50", "p99"]
    held = figures(ran(one=[sample(100, 5), sample(101, 5)]), 5)
    assert [found["title"] for found in plots(held, "requests in flight")] == ["Requests in flight"]
    for found in drawn:
        parsed(found["svg"])
