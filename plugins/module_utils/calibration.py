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
from typing import Any

from ansible_collections.c50k.stack.plugins.module_utils.capacity import KIB, MEASURED_TIERS, MIB

GENERATOR = "load_generator"
# A load generator that uses more of its cores measures itself.
GENERATOR_SHARE = 0.9
# Seconds with everybody there, cores that a tier uses, and bytes that it grows by, below which the rest weighs more.
LEAST_SECONDS = 5
LEAST_CORES = 0.1
LEAST_GROWTH = 16 * MIB


class CalibrationError(ValueError):
    """The test tells nothing of the fleet. The message says why, and what to do."""


@dataclass(frozen=True)
class Host:
    """A host of a tier, its cores, and what it used: second -> (seconds of CPU time, bytes)."""

    name: str
    tier: str
    cores: float
    used: Mapping[int, tuple[float, int]]

    def busy(self, first: int, last: int) -> float:
        """Return how many of its cores were busy between two seconds."""
        seconds = self._between(first, last)
        if len(seconds) < 2:
            raise CalibrationError(
                f"{self.name} told nothing of what it used while all were there. Its journal says why "
                "(journalctl -u host-usage); then test again."
            )
        return (self.used[seconds[-1]][0] - self.used[seconds[0]][0]) / (seconds[-1] - seconds[0])

    def growth(self, first: int, last: int, began: int) -> float:
        """Return how many bytes more it held between two seconds than before the test began."""
        before, during = self._between(0, began - 1), self._between(first, last)
        if not before or not during:
            raise CalibrationError(
                f"{self.name} told nothing of its memory {'while all were there' if before else 'before the test'}. "
                "Its journal says why (journalctl -u host-usage); then test again."
            )
        means = [sum(self.used[second][1] for second in seconds) / len(seconds) for seconds in (before, during)]
        return means[1] - means[0]

    def _between(self, first: int, last: int) -> list[int]:
        return [second for second in sorted(self.used) if first <= second <= last]


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
    first, last = figures["held_from"], figures["held_until"]
    is_held = plan["tool"] == "hold"
    if not is_held:
        refuse_limit(hosts, first, last)
    name = "request_kib" if is_held else "requests_per_core"
    found: dict[str, dict[str, Any]] = {tier: dict(measured.get(tier) or {}) for tier in MEASURED_TIERS}
    says = []
    for tier in MEASURED_TIERS:
        members = [host for host in hosts if host.tier == tier]
        if not members:
            continue
        if is_held:
            value, said = held_kib(tier, members, figures, plan["amount"])
        else:
            value, said = per_core(tier, members, figures)
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


def refuse_limit(hosts: Sequence[Host], first: int, last: int) -> None:
    generators = [host for host in hosts if host.tier == GENERATOR]
    for host in generators:
        busy = host.busy(first, last)
        if busy >= GENERATOR_SHARE * host.cores:
            raise CalibrationError(
                f"{host.name} was the limit, with {busy:.2f} of its {host.cores:g} cores busy: the test measured the "
                f"load generator. Raise fleet_tiers.load_generator.count ({len(generators)}) or its type and run "
                "site.yml, or set load_test_users to less."
            )


def per_core(tier: str, members: Sequence[Host], figures: Mapping[str, Any]) -> tuple[float, str]:
    """Return the requests a second that a busy core of the tier answers, and a line on it."""
    busy = sum(host.busy(figures["held_from"], figures["held_until"]) for host in members)
    if busy < LEAST_CORES:
        raise CalibrationError(
            f"The hosts of {tier} used {busy:.2f} cores, which is what they use at rest: set load_test_users to more."
        )
    value = float(f"{figures['requests_per_second'] / busy:.3g}")
    cores = sum(host.cores for host in members)
    rate = figures["requests_per_second"]
    return (
        value,
        f"{tier}: {value:,g} requests a second and core ({rate:,.0f} a second, {busy:.2f} of {cores:g} cores busy)",
    )


def held_kib(tier: str, members: Sequence[Host], figures: Mapping[str, Any], amount: int) -> tuple[int, str]:
    """Return the KiB of a host of the tier that one request in flight takes, and a line on it."""
    first, last = figures["held_from"], figures["held_until"]
    growth = sum(host.growth(first, last, figures["began"]) for host in members)
    if growth < LEAST_GROWTH:
        raise CalibrationError(
            f"The hosts of {tier} held {growth / MIB:.1f} MiB more with {amount:,} requests in flight than before, "
            f"which may be by chance: set load_test_requests to more ({LEAST_GROWTH // MIB} MiB tell something)."
        )
    value = math.ceil(growth / amount / KIB)
    return value, f"{tier}: {value} KiB of memory for each request in flight ({growth / MIB:,.0f} MiB for {amount:,})"
