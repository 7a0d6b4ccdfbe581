#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The primary's host loses its power, again and again, while a service writes: how long no write is acknowledged.

Flow: a fleet with automatic failover (site.yml) -> for each loss: writers through the front door, power off for 60 s,
until all members are back -> every write accounted for (tests/drills) -> bench/results/failover.json; then the fleet is
destroyed.
Usage: bench/failover.py [--losses 20]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from fleet import INVENTORY, PROJECT, RESULTS, Fleet, play, tiers
from throughput import say

sys.path.insert(0, str(PROJECT / "tests/drills"))
from fleets import Ssh, accounted, leader, lose_power, ssh_words, whole

RESULT = RESULTS / "failover.json"
OFF = 60  # seconds that the host stays off
BACK = 240  # seconds within which all members are back


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--losses", type=int, default=20)
    options = parser.parse_args()
    wanted = tiers(1, 2, 0) | {
        "postgres": {"count": 3, "max": 3, "type": "g6-standard-1"},
        "etcd": {"count": 3, "max": 3, "type": "g6-nanode-1"},
    }
    say("site.yml: three members and etcd")
    play(
        "site",
        fleet_tiers={name: tier for name, tier in wanted.items() if tier["count"]},
        postgres_failover="automatic",
    )
    fleet = Fleet()
    ssh = ssh_words(dict(zip(fleet.names("postgres"), fleet.public("postgres"), strict=True)), INVENTORY / ".secrets")
    url = f"http://{fleet.public('load_balancer')[0]}"
    rows: list[dict[str, Any]] = []
    for number in range(1, options.losses + 1):
        rows.append(loss(ssh, url))
        say(f"loss {number}: {rows[-1]}")
        RESULT.write_text(json.dumps({"seconds_off": OFF, "losses": rows}, indent=1) + "\n")
    play("destroy", fleet_tiers={})
    return 0


def loss(ssh: Ssh, url: str) -> dict[str, Any]:
    """Return what one loss of the primary's host came to; AssertionError where a write is lost."""
    lost = leader(ssh)
    with accounted(ssh, url, lambda: leader(ssh)) as account:
        time.sleep(3)
        began = time.monotonic()
        lose_power(lost, OFF)
        seconds = {
            "promoted_seconds": until(lambda: leader(ssh) not in ("", lost), OFF, began),
            "whole_seconds": until(lambda: whole(ssh), BACK, began),
        }
    assert account.report
    report = account.report
    counts = {name: report.outcomes.get(name, 0) for name in ("ok", "failed", "unknown")}
    return {
        "host": lost,
        "gap_seconds": report.gap,
        **seconds,
        **counts,
        "unknown_and_there": report.unknown_and_there,
        "lost": len(report.lost),
    }


def until(check: Callable[[], bool], limit: float, began: float) -> float:
    """Return the seconds since ``began`` at which ``check`` was true; AssertionError after ``limit``."""
    while not check():
        assert time.monotonic() - began < limit, f"not within {limit} s"
        time.sleep(0.3)
    return round(time.monotonic() - began, 1)


if __name__ == "__main__":
    sys.exit(main())
