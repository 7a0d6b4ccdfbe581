#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shards of several sizes move to another cluster while a service writes: for how long the writers of a shard wait.

Flow: a fleet with two clusters (site.yml) -> for each size: shards with so many rows, move_shard.yml while writers post
through the front door -> every write accounted for (tests/drills) -> bench/results/move_shard.json; then the fleet is
destroyed.
Usage: bench/move_shard.py [--shards 10]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from fleet import PROJECT, RESULTS, Fleet, play, tiers
from throughput import say

sys.path.insert(0, str(PROJECT / "tests/drills"))
from writes import Writing, accounts

RESULT = RESULTS / "move_shard.json"
SIZES = (1_000, 10_000, 100_000)  # rows of a shard
FIRST_NUMBER = 1_000_000  # of the rows' ids, beyond those that the service gives meanwhile
CLUSTERS = {"bench-postgres-1": "main", "bench-postgres-2": "two"}
MOVED = re.compile(r"shard (\d+): \d+ rows from main to two in ([\d.]+) s; its writers waited ([\d.]+) ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, default=10, help="that move, of each size")
    count = parser.parse_args().shards
    fleet_tiers = tiers(1, 1, 0) | {"postgres": {"count": 2, "max": 2, "type": "g6-standard-2"}}
    variables: dict[str, Any] = {
        "fleet_tiers": {name: tier for name, tier in fleet_tiers.items() if tier["count"]},
        "postgres_cluster": "{{ " + json.dumps(CLUSTERS) + "[inventory_hostname] | default('main') }}",
    }
    say("site.yml: two clusters, all shards on the first")
    play("site", **variables, shard_map={"main": "0-255", "two": ""})
    fleet = Fleet()
    moving = count * len(SIZES)
    for number, rows in enumerate(SIZES):
        fill(fleet, range(number * count, (number + 1) * count), rows)
    say("site.yml: the map has them on the second")
    variables["shard_map"] = {"main": f"{moving}-255", "two": f"0-{moving - 1}"}
    play("site", **variables)
    result: list[dict[str, Any]] = []
    for number, rows in enumerate(SIZES):
        shards = f"{number * count}-{(number + 1) * count - 1}"
        moves, writes = move(fleet, variables, shards)
        result.append({"rows": rows, "moves": moves, **writes})
        say(f"{rows:,} rows: {result[-1]}")
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    play("destroy", fleet_tiers={})
    return 0


def fill(fleet: Fleet, shards: range, rows: int) -> None:
    """Give each of these shards so many rows, of about 200 bytes."""
    say(f"{rows:,} rows for each of the shards {shards.start} to {shards.stop - 1}")
    insert = (
        "INSERT INTO items (id, name, description, price_cents) "
        "SELECT n * 256 + shard, 'Item ' || n, repeat('x', 150), 1 "
        f"FROM generate_series({shards.start}, {shards.stop - 1}) AS shard, "
        f"generate_series({FIRST_NUMBER}, {FIRST_NUMBER + rows - 1}) AS n"
    )
    for statement in (insert, "VACUUM ANALYZE items"):
        psql(fleet, "bench-postgres-1", statement)


def move(fleet: Fleet, variables: Mapping[str, Any], shards: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return what each move says of itself, and what became of the writes; AssertionError where one is lost."""
    with Writing(f"http://{fleet.public('load_balancer')[0]}") as writing:
        play("move_shard", **variables, shard=shards)
    log = (PROJECT / ".cache/bench-move_shard.log").read_text()
    moves = [
        {"shard": int(shard), "seconds": float(seconds), "pause_ms": float(pause)}
        for shard, seconds, pause in MOVED.findall(log)
    ]
    written = f"SELECT name FROM items WHERE id < {FIRST_NUMBER * 256}"  # not the rows that were there before
    names = [line for host in CLUSTERS for line in psql(fleet, host, written).splitlines()]
    report = accounts(writing.writes, names)
    report.check()
    slowest = max(write.ended - write.sent for write in writing.writes)
    outcomes = {name: report.outcomes.get(name, 0) for name in ("ok", "failed", "unknown")}
    return moves, {**outcomes, "lost": len(report.lost), "slowest_write_seconds": round(slowest, 3)}


def psql(fleet: Fleet, host: str, statement: str) -> str:
    words = fleet.ssh(host, "runuser -u postgres -- psql -XqAt -v ON_ERROR_STOP=1 app")
    return subprocess.run(words, input=statement, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
