#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs the application, side by side: uvicorn's workers, gunicorn's own, granian.

Flow: the fleet of throughput.py, its release run by each engine in turn (site.yml) -> wrk over HAProxy, round after
round -> the median of each, its ratio to the default in the same round, and the memory of an app host after the run
-> bench/results/engines.json. Usage: bench/engines.py [--rounds 3] [--seconds 8]
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from fleet import RESULTS, Fleet, play, tiers, upstream
from goals import OURS
from throughput import APP_SERVERS, CONNECTIONS, FIGURES, ROUTES, WORKERS, Bench, say, summary

RESULT = RESULTS / "engines.json"
ENGINES = ("uvicorn", "gunicorn", "granian")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with upstream(latency=0, processes=1):
        for number in range(options.rounds):
            for engine in ENGINES:
                say(f"site.yml: {engine}")
                play("site", fleet_tiers=tiers(1, APP_SERVERS, 1), app_server_workers=WORKERS, app_server_engine=engine)
                bench = Bench(Fleet(), options.seconds)
                bench.install()
                for route in ROUTES:
                    row = bench.measure(OURS, route, CONNECTIONS)
                    rows.append({**row, "round": number, "engine": engine, "memory_mib": memory(bench.fleet)})
    sums = list(summary(rows, "engine", ENGINES, (*FIGURES, "memory_mib"), lambda own, default: own / default))
    result = {"connections": CONNECTIONS, "workers": WORKERS, "summary": sums, "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["summary"], indent=2))
    return 0


def memory(fleet: Fleet) -> int:
    """Return the MiB that the service's processes have for themselves on the first app host."""
    script = "awk '/^Private_Dirty/ {print $2}' /proc/$pid/smaps_rollup"
    return sum(fleet.service_processes(fleet.names("app_server")[0], script)) // 1024


if __name__ == "__main__":
    sys.exit(main())
