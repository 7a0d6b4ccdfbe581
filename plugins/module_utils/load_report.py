# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a load test counted: samples of all hosts, added up; the figures and plots of its page. Pure.

Data: a sample is what one process did in a second (roles/load_generator/files/samples.py). Flow: samples -> Run ->
figures, a dictionary -> plots, SVG.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from typing import Any

# Points of a plot; a longer test has more seconds in each.
POINTS = 120
# Seconds that the progress tells of.
RECENT = 5

# Routes whose times are drawn, the most used ones.
PLOTTED = 4

WIDTH, HEIGHT = 480, 170
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 10, 22
TICKS = 5


@dataclass
class Tally:
    """Requests that have ended, and their milliseconds: rounded -> how many."""

    requests: int = 0
    failed: int = 0
    times: Counter[float] = field(default_factory=Counter)

    def add(self, requests: int, failed: int, times: Mapping[Any, int]) -> None:
        self.requests += requests
        self.failed += failed
        for time, count in times.items():
            self.times[float(time)] += count

    def percentile(self, percent: float) -> float | None:
        """Return the milliseconds within which so many percent were answered; None when nothing was measured."""
        total = sum(self.times.values())
        seen = 0
        for time in sorted(self.times):
            seen += self.times[time]
            if seen * 100 >= total * percent:
                return time
        return None


class Run:
    """All that was counted, in whole seconds of Unix time; how many were active, process by process."""

    def __init__(self) -> None:
        self.seconds: dict[int, dict[str, Tally]] = {}
        self.failures: Counter[str] = Counter()
        self.active: dict[tuple[str, int], dict[int, int]] = {}

    def add(self, host: str, lines: Iterable[str]) -> None:
        """Add the samples of a host."""
        for sample in map(json.loads, lines):
            second = sample["time"]
            self.active.setdefault((host, sample["source"]), {})[second] = sample["active"]
            self.failures.update(sample["failures"])
            routes = self.seconds.setdefault(second, {})
            for route, counts in sample["routes"].items():
                routes.setdefault(route, Tally()).add(counts["requests"], counts["failed"], counts["ms"])

    @property
    def first(self) -> int:
        return min(self.seconds)

    @property
    def last(self) -> int:
        return max(self.seconds)

    def active_by_second(self) -> dict[int, int]:
        """Return the users, or requests in flight, of all processes; one that skips a second has as many as before."""
        total = dict.fromkeys(range(self.first, self.last + 1), 0)
        for said in self.active.values():
            now = 0
            for second in range(min(said), max(said) + 1):
                now = said.get(second, now)
                total[second] += now
        return total

    def between(self, first: int, last: int) -> dict[str, Tally]:
        """Return the requests that ended in the seconds from *first* to *last*, by route, the most used one first."""
        found: dict[str, Tally] = {}
        for second in range(first, last + 1):
            for route, tally in self.seconds.get(second, {}).items():
                found.setdefault(route, Tally()).add(tally.requests, tally.failed, tally.times)
        return dict(sorted(found.items(), key=lambda item: -item[1].requests))


def total(tallies: Mapping[str, Tally]) -> Tally:
    """Return the sum of all routes."""
    found = Tally()
    for tally in tallies.values():
        found.add(tally.requests, tally.failed, tally.times)
    return found


def progress(run: Run, counted: str) -> str:
    """Return one line on the last seconds that every host has told of; *counted* names what is active.

    The times are those of the most used route, as others may be slow on purpose.
    """
    if not run.seconds:
        return "nothing counted yet"
    hosts = {host for host, _source in run.active}
    told = (max(max(said) for (of, _source), said in run.active.items() if of == host) for host in hosts)
    # a host that tells no more does not stop the others
    last = max(min(told), run.last - 2 * RECENT)
    recent = run.between(max(run.first, last - RECENT + 1), last)
    rate = total(recent).requests / min(RECENT, last - run.first + 1)
    failed = sum(tally.failed for routes in run.seconds.values() for tally in routes.values())
    parts = [f"{last - run.first:4} s", f"{counted} {run.active_by_second()[last]:,}"]
    parts += [f"{rate:,.0f} requests/s", f"failed {failed:,}"]
    route = next(iter(run.between(run.first, run.last)), "")
    times = recent.get(route, Tally())
    if times.times:
        parts += [route, *(f"p{percent} {milliseconds(times.percentile(percent))}" for percent in (50, 99))]
    return "   ".join(parts)


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.2g} ms"


def figures(run: Run, amount: int) -> dict[str, Any]:
    """Return what the page shows; the filter ``load_test_report`` documents it. ValueError when nothing was counted.

    :param amount: how many users or requests were asked for.
    """
    if not run.seconds:
        raise ValueError("No load generator counted anything.")
    routes = run.between(run.first, run.last)
    everything = total(routes)
    active = run.active_by_second()
    held = [second for second, number in active.items() if number >= amount]
    first, last = longest(held)
    while_held = total(run.between(first, last)).requests
    return {
        "began": run.first,
        "seconds": len(active),
        **summary(everything),
        "requests_per_second": round(while_held / (last - first + 1), 1),
        "failed_share": everything.failed / everything.requests if everything.requests else 0.0,
        "most_active": max(active.values()),
        # from one sight of them all to the last one
        "seconds_held": last - first,
        "held_from": first,
        "held_until": last,
        "routes": [{"route": route, **summary(tally)} for route, tally in routes.items()],
        "failures": [{"reason": reason, "requests": count} for reason, count in run.failures.most_common()],
        "over_time": over_time(run, active, list(routes)[:PLOTTED]),
    }


def summary(tally: Tally) -> dict[str, Any]:
    return {
        "requests": tally.requests,
        "failed": tally.failed,
        **{f"p{percent}_ms": tally.percentile(percent) for percent in (50, 90, 95, 99, 100)},
    }


def longest(seconds: Iterable[int]) -> tuple[int, int]:
    """Return the first and the last of the longest row of *seconds* without a gap; twice 0 without any."""
    groups = groupby(enumerate(seconds), key=lambda pair: pair[1] - pair[0])
    rows = [[second for _number, second in row] for _difference, row in groups]
    longest_row = max(rows, key=len, default=[0])
    return longest_row[0], longest_row[-1]


def over_time(run: Run, active: Mapping[int, int], routes: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each of at most POINTS equal parts of the run, with the times of *routes*."""
    width = math.ceil(len(active) / POINTS)
    rows = []
    for first in range(run.first, run.last + 1, width):
        last = min(first + width - 1, run.last)
        part, length = run.between(first, last), last - first + 1
        everything = total(part)
        rows.append(
            {
                "second": first - run.first,
                "active": max(active[second] for second in range(first, last + 1)),
                "requests_per_second": round(everything.requests / length, 1),
                "failed_per_second": round(everything.failed / length, 1),
                "routes": {
                    route: {f"p{percent}_ms": part.get(route, Tally()).percentile(percent) for percent in (50, 99)}
                    for route in routes
                },
            }
        )
    return rows


def plots(report: Mapping[str, Any], counted: str) -> list[dict[str, Any]]:
    """Return the plots over time: ``title``, ``lines`` (their names, in the order of their colours) and ``svg``."""
    rows = report["over_time"]
    wanted: dict[str, dict[str, list[float | None]]] = {
        counted.capitalize(): {counted: [row["active"] for row in rows]},
        "Requests a second": {"ended": [row["requests_per_second"] for row in rows]},
        "Failed requests a second": {"failed": [row["failed_per_second"] for row in rows]},
    }
    for route in rows[0]["routes"]:
        times = {name: [row["routes"][route][f"{name}_ms"] for row in rows] for name in ("p50", "p99")}
        wanted[f"{route}, milliseconds"] = times
    seconds = [row["second"] for row in rows]
    return [
        {"title": title, "lines": list(lines), "svg": plot(title, seconds, list(lines.values()))}
        for title, lines in wanted.items()
        if any(value for line in lines.values() for value in line)
    ]


def plot(title: str, seconds: Sequence[int], lines: Sequence[Sequence[float | None]]) -> str:
    """Return a plot of *lines* over *seconds* as SVG; None leaves a gap. The page colours ``.line0``, ``.line1``, …."""
    most = max((value for line in lines for value in line if value is not None), default=0)
    step = nice_step(most)
    ticks = max(1, math.ceil(most / step))
    last = max(1, seconds[-1] - seconds[0])

    def x(second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (second - seconds[0]) / last

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / (step * ticks)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over time">']
    for number in range(ticks + 1):
        at = f"{y(step * number):.1f}"
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at}" dy="4" text-anchor="end">{step * number:,.10g}</text>')
    wide = max(1, nice_step(last))
    for number in range(int(last / wide) + 1):
        at, text = f"{x(seconds[0] + wide * number):.1f}", f"{wide * number:,.10g}{'' if number else ' s'}"
        parts.append(f'<text x="{at}" y="{HEIGHT - 6}" text-anchor="middle">{text}</text>')
    for number, line in enumerate(lines):
        points = zip(seconds, line, strict=True)
        for is_gap, piece in groupby(points, key=lambda point: point[1] is None):
            if not is_gap:
                path = "L".join(f"{x(second):.1f} {y(value or 0):.1f}" for second, value in piece)
                # a length of nothing is a dot, with round ends
                parts.append(f'<path class="line line{number}" d="M{path}{"h0" if "L" not in path else ""}"/>')
    return "".join([*parts, "</svg>"])


def nice_step(most: float) -> float:
    """Return 1, 2 or 5 times a power of ten, of which at most TICKS make *most*."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most / TICKS))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * TICKS >= most * (1 - 1e-9))
