#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the service's CPU time goes, as it is and as it was at an earlier commit.

Flow: the fleet of throughput.py, its release from the folder and from that commit in turn (site.yml) -> wrk over
HAProxy -> the CPU time of the service's processes and of HAProxy's, divided by the requests, and a flame graph of the
service's workers by py-spy under the same load -> bench/results/profiles.json, profile-VERSION-ROUTE.svg.
Usage: bench/profiles.py [--before COMMIT]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from fleet import BIN, PROJECT, RESULTS, Fleet, play, tiers, upstream
from goals import OURS
from throughput import APP_SERVERS, CONNECTIONS, ROUTES, WORKERS, Bench, say

RESULT = RESULTS / "profiles.json"
# The service before its hot path was worked on.
BEFORE = "cfa60f6"
PROFILER = "/root/py-spy"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", default=BEFORE, help="a commit of this repository")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    options = parser.parse_args()
    repository = f"{PROJECT.as_uri()}#subdirectory=app"
    sources: dict[str, dict[str, Any]] = {
        "after": {},
        # it takes no longer time-out, and knows the schema of its own time, which what came after has only added to
        "before": {
            "app_server_source": repository,
            "app_server_version": options.before,
            "app_server_migrate_command": [],
            "bench_upstream_timeout": 8,
        },
    }
    rows: list[dict[str, Any]] = []
    with upstream(latency=0, processes=1):
        for version, source in sources.items():
            say(f"site.yml: {version}")
            play("site", fleet_tiers=tiers(1, APP_SERVERS, 1), app_server_workers=WORKERS, **source)
            bench = Bench(Fleet(), options.seconds)
            bench.install()
            copy_profiler(bench)
            for route in ROUTES:
                found = [cpu(bench, route) for _round in range(options.rounds)]
                row = {key: statistics.median(one[key] for one in found) for key in found[0]}
                picture = f"profile-{version}-{route}.svg"
                (RESULTS / picture).write_text(flame_graph(bench, route))
                rows.append({"version": version, "route": route, **row, "flame_graph": picture})
    RESULT.write_text(json.dumps({"before": options.before, "rows": rows}, indent=1) + "\n")
    print(json.dumps(rows, indent=2))
    return 0


def cpu(bench: Bench, route: str) -> dict[str, float]:
    """Return what a run did, and the microseconds of CPU time that one request took of service and load balancer."""

    def used() -> list[int]:
        script = "awk '{print $14 + $15}' /proc/$pid/stat"  # hundredths of a second
        units = (("app_server", "app"), ("load_balancer", "haproxy"))
        return [
            10_000 * sum(bench.fleet.service_processes(bench.fleet.names(tier)[0], script, unit))
            for tier, unit in units
        ]

    bench.warm_up(OURS, route, CONNECTIONS)
    before = used()
    found = bench.measure(OURS, route, CONNECTIONS, warm=True)
    service, load_balancer = (
        round((now - then) / found["requests"], 1) for now, then in zip(used(), before, strict=True)
    )
    return {
        "cpu_us_each": service,
        "load_balancer_cpu_us_each": load_balancer,
        "requests_a_second": found["requests_a_second"],
        "failed": found["failed"],
    }


def copy_profiler(bench: Bench) -> None:
    for name in bench.fleet.names("app_server"):
        command = bench.fleet.ssh(name, f"install -m 0755 /dev/stdin {PROFILER}")
        with (BIN / "py-spy").open("rb") as program:
            subprocess.run(command, stdin=program, check=True)


def flame_graph(bench: Bench, route: str) -> str:
    """Return the picture of where all workers of the first app host were while a run went on."""
    name = bench.fleet.names("app_server")[0]
    record = f"{PROFILER} record --subprocesses --pid $(systemctl show -P MainPID app) --duration {bench.seconds - 2}"
    command = bench.fleet.ssh(name, f"{record} --rate 200 --output /root/profile.svg >&2 && cat /root/profile.svg")
    bench.warm_up(OURS, route, CONNECTIONS)
    profiler = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    bench.measure(OURS, route, CONNECTIONS, warm=True)
    picture, said = profiler.communicate()
    if profiler.returncode or "<svg" not in picture:
        raise SystemExit(f"py-spy failed on {name}: {said}")
    return picture


if __name__ == "__main__":
    sys.exit(main())
