# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The load tests that a fleet has had, and how one compares with the last one of its shape. Pure.

Data: an entry, the figures of one test; the history, entries from the oldest on. Flow: plan and figures -> entry ->
compared with the history -> the history with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

# Tests that are kept; the oldest go first.
KEPT = 100

# What is compared, by its name for people; of requests that are held the times are as long as they are to be.
RATIOS = {"requests_per_second": "requests/s", "p50_ms": "p50", "p95_ms": "p95", "p99_ms": "p99"}
HELD_RATIOS = {"most_active": "requests in flight"}
FIGURES = ("requests", "failed", "most_active", "seconds_held", *RATIOS)


def entry(plan: Mapping[str, Any], figures: Mapping[str, Any], fleet: str) -> dict[str, Any]:
    """Return what is kept of a test: its plan as ``load_test_plan`` tells it, its figures as ``load_test_report`` does.

    :param fleet: what the fleet was then, for people.
    """
    return {
        "at": datetime.fromtimestamp(figures["began"], UTC).isoformat(timespec="seconds"),
        "tool": plan["tool"],
        "title": plan["title"],
        "seconds": plan["seconds"],
        "fleet": fleet,
        **{name: figures[name] for name in FIGURES},
    }


def shape(one: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what two tests have in common whose figures can be compared."""
    return one["tool"], one["title"], one["seconds"]


def compare(now: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare a test with the last one of its shape.

    :returns: ``before``, that one, or None; ``ratios``, now by then, for each name of RATIOS that both have measured;
        ``says``, a line for people.
    """
    before = next((one for one in reversed(history) if shape(one) == shape(now)), None)
    if before is None:
        return {"before": None, "ratios": {}, "says": "There is no test of this shape before it to compare with."}
    wanted = HELD_RATIOS if now["tool"] == "hold" else RATIOS
    ratios = {name: round(now[name] / before[name], 3) for name in wanted if now[name] and before[name]}
    parts = [f"{wanted[name]} {said(now[name])} ÷ {said(before[name])} = {ratio:.2f}" for name, ratio in ratios.items()]
    parts.append(f"failed {now['failed']:,}, then {before['failed']:,}")
    says = f"Against the last test of this shape, of {before['at'][:16].replace('T', ' ')} UTC: {'; '.join(parts)}."
    if now["fleet"] != before["fleet"]:
        says += f" The fleet was another then: {before['fleet']}"
    return {"before": dict(before), "ratios": ratios, "says": says}


def said(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def add(now: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the history with a test more, of KEPT tests at most."""
    return [dict(one) for one in (*history, now)][-KEPT:]
