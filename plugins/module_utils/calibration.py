# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a load test tells capacity: requests a second and core, or memory of a request in flight. Pure.

Data: a host's usage, a line a second of ``time``, ``cpu`` (seconds of CPU time so far) and ``memory`` (bytes), as
playbooks/files/host_usage.py tells it. Flow: the figures of a test, and the usage of the hosts meanwhile ->
``capacity_measured``, the variable that :mod:`capacity` plans with.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ansible_collections.c50k.stack.plugins.module_utils.capacity import KIB, MEASURED_TIERS, MIB

GENERATOR = "load_generator"
# A load generator that uses more of its cores measures itself.
GENERATOR_SHARE = 0.9
# Seconds with everybody there, and cores and bytes that a tier uses more than at rest, of which less may be by chance.
LEAST_SECONDS = 5
LEAST_CORES = 0.02
LEAST_GROWTH = 16 * MIB


class CalibrationError(ValueError):
    """The test tells nothing of the fleet. The message says why, and what to do."""


class Span(NamedTuple):
    """From one second to another, both with it; ``said`` names it in what is refused."""

    first: int
    last: int
    said: str


@dataclass(frozen=True)
class Host:
    """A host of a tier, its cores, and what it used: second -> (seconds of CPU time, bytes)."""

    name: str
    tier: str
    cores: float
    used: Mapping[int, tuple[float, int]]

    def busy(self, span: Span) -> float:
        """Return how many of its cores were busy."""
        seconds = self._told(span)
        return (self.used[seconds[-1]][0] - self.used[seconds[0]][0]) / (seconds[-1] - seconds[0])

    def held(self, span: Span) -> float:
        """Return how many bytes it held, on average."""
        seconds = self._told(span)
        return sum(self.used[second][1] for second in seconds) / len(seconds)

    def _told(self, span: Span) -> list[int]:
        seconds = [second for second in sorted(self.used) if span.first <= second <= span.last]
        if len(seconds) < 2:
            raise CalibrationError(
                f"{self.name} told nothing of what it used {span.said}. Its journal says why "
                "(journalctl -u host-usage); then test again."
            )
        return seconds


def read_usage(lines: Iterable[str]) -> dict[int, tuple[float, int]]:
    """Return what a host told; its last line may be half of one."""
    found = {}
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found[row["time"]] = row["cpu"], row["memory"]
    return found


def calibrate(
    plan: Mapping[str, Any], figures: Mapping[str, Any], hosts: Sequence[Host], measured: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the test measured, laid over what was *measured* before.

    Users tell ``requests_per_core``, requests that are held ``request_kib``.

    :param plan: as the filter ``load_test_plan`` returns it; *figures*, as ``load_test_report`` does.
    :returns: ``measured``, for the variable ``capacity_measured``, and ``says``, lines for people.
    :raises CalibrationError: the test failed, was too small, or the load generators were its limit.
    """
    refuse_failed(plan, figures)
    before = Span(0, figures["began"] - 1, "before the test")
    meanwhile = Span(figures["held_from"], figures["held_until"], "while all were there")
    is_held = plan["tool"] == "hold"
    if not is_held:
        refuse_limit(hosts, meanwhile)
    name = "request_kib" if is_held else "requests_per_core"
    found: dict[str, dict[str, Any]] = {tier: dict(measured.get(tier) or {}) for tier in MEASURED_TIERS}
    says = []
    for tier in MEASURED_TIERS:
        members = [host for host in hosts if host.tier == tier]
        if not members:
            continue
        if is_held:
            value, said = held_kib(tier, members, before, meanwhile, plan["amount"])
        else:
            value, said = per_core(tier, members, before, meanwhile, figures["requests_per_second"])
        found[tier][name] = value
        says.append(said)
    if not says:
        raise CalibrationError("The fleet has no app_server and no load_balancer, and nothing else is measured.")
    at = datetime.fromtimestamp(figures["began"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    by = {**(measured.get("by") or {}), name: f"{plan['tool']}, {plan['title']}, {at}"}
    return {"measured": {**{tier: values for tier, values in found.items() if values}, "by": by}, "says": says}


def refuse_failed(plan: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
    if figures["failed"]:
        raise CalibrationError(
            f"{figures['failed']:,} of {figures['requests']:,} requests failed: a fleet that fails does not tell what "
            "it can carry. Mend what failed, or test with less."
        )
    if figures["most_active"] < plan["amount"] or figures["seconds_held"] < LEAST_SECONDS:
        raise CalibrationError(
            f"All {plan['amount']:,} {plan['counted']} were there for {figures['seconds_held']} s, and at least "
            f"{LEAST_SECONDS} tell something: set load_test_seconds to more, or test with less."
        )


def refuse_limit(hosts: Sequence[Host], meanwhile: Span) -> None:
    generators = [host for host in hosts if host.tier == GENERATOR]
    for host in generators:
        busy = host.busy(meanwhile)
        if busy >= GENERATOR_SHARE * host.cores:
            raise CalibrationError(
                f"{host.name} was the limit, with {busy:.2f} of its {host.cores:g} cores busy: the test measured the "
                f"load generator. Raise fleet_tiers.load_generator.count ({len(generators)}) or its type and run "
                "site.yml, or set load_test_users to less."
            )


def per_core(tier: str, members: Sequence[Host], before: Span, meanwhile: Span, rate: float) -> tuple[float, str]:
    """Return the requests a second that a busy core of the tier answers, of *rate* in all, and a line on it."""
    rest = sum(host.busy(before) for host in members)
    busy = sum(host.busy(meanwhile) for host in members) - rest
    if busy < max(LEAST_CORES, rest):
        raise CalibrationError(
            f"The hosts of {tier} had {rest:.2g} cores busy before the test and {busy:.2g} more with the requests, "
            "which may be by chance: set load_test_users to more "
            f"({max(LEAST_CORES, rest):.2g} of a core tells something)."
        )
    value = float(f"{rate / busy:.3g}")
    cores = sum(host.cores for host in members)
    return (
        value,
        f"{tier}: {value:,g} requests a second and core ({rate:,.0f} a second kept {busy:.2f} of {cores:g} cores busy)",
    )


def held_kib(tier: str, members: Sequence[Host], before: Span, meanwhile: Span, amount: int) -> tuple[int, str]:
    """Return the KiB of a host of the tier that one request in flight takes, and a line on it."""
    growth = sum(host.held(meanwhile) - host.held(before) for host in members)
    if growth < LEAST_GROWTH:
        raise CalibrationError(
            f"The hosts of {tier} held {growth / MIB:.1f} MiB more with {amount:,} requests in flight than before, "
            f"which may be by chance: set load_test_requests to more ({LEAST_GROWTH // MIB} MiB tell something)."
        )
    value = math.ceil(growth / amount / KIB)
    return value, f"{tier}: {value} KiB of memory for each request in flight ({growth / MIB:,.0f} MiB for {amount:,})"
