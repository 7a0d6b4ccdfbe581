#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs to watch the service: metrics, the access log, traces, Sentry, each against none of them.

Flow: the fleet of throughput.py (site.yml) -> round after round, there and back again: the service restarted with each
variant's drop-in, and wrk over HAProxy -> the median of each, and its ratios to none in the same round
-> bench/results/observers.json. Traces and errors go to a sink on the app host's loopback.
Usage: bench/observers.py [--rounds 3] [--seconds 4]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from fleet import RESULTS, Fleet, play, tiers, upstream
from goals import OURS
from throughput import APP_SERVERS, CONNECTIONS, FIGURES, ROUTES, WORKERS, Bench, say, summary

RESULT = RESULTS / "observers.json"
SINK = Path(__file__).with_name("sink.py")
PORT = 4318
METRICS = ["Environment=METRICS=on"]
ACCESS_LOG = ["Environment=ACCESS_LOG=on"]
TRACES = [f"Environment=OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{PORT}"]
SAMPLED = [*TRACES, "Environment=OTEL_TRACES_SAMPLER=parentbased_traceidratio OTEL_TRACES_SAMPLER_ARG=0.01"]
SENTRY = ["LoadCredential=sentry_dsn:/root/sentry_dsn"]
VARIANTS = {  # lines of the unit
    "none": [],
    "metrics": METRICS,
    "access log": ACCESS_LOG,
    "traces of 1 in 100": SAMPLED,
    "traces of all": TRACES,
    "Sentry": SENTRY,
    "all of them": [*METRICS, *ACCESS_LOG, *SAMPLED, *SENTRY],
}
DROP_IN = "/run/systemd/system/app.service.d/bench.conf"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    say("site.yml")
    play("site", fleet_tiers=tiers(1, APP_SERVERS, 1), app_server_workers=WORKERS)
    bench = Bench(Fleet(), options.seconds)
    bench.install()
    start_sink(bench.fleet)
    rows: list[dict[str, Any]] = []
    with upstream(latency=0, processes=1):
        for number in range(options.rounds):
            for variant in list(VARIANTS)[:: -1 if number % 2 else 1]:
                restart(bench, VARIANTS[variant])
                rows += [{"round": number, "variant": variant, **measure(bench, variant, route)} for route in ROUTES]
    restart(bench, [])
    sums = list(summary(rows, "variant", tuple(VARIANTS), FIGURES, lambda own, none: own / none))
    for row in sums:
        own, none = (
            [one["p99_ms"] for one in rows if (one["variant"], one["route"]) == (variant, row["route"])]
            for variant in (row["variant"], "none")
        )
        row["p99_ratio"] = round(statistics.median(ours / its for ours, its in zip(own, none, strict=True)), 2)
        row["unsent"] = sum(
            one["unsent"] for one in rows if (one["variant"], one["route"]) == (row["variant"], row["route"])
        )
    RESULT.write_text(
        json.dumps({"connections": CONNECTIONS, "workers": WORKERS, "summary": sums, "rows": rows}, indent=1) + "\n"
    )
    print(json.dumps(sums, indent=2))
    return 0


def start_sink(fleet: Fleet) -> None:
    host = fleet.names("app_server")[0]
    subprocess.run(fleet.ssh(host, "cat >/root/sink.py"), input=SINK.read_text(), text=True, check=True)
    fleet.run(
        host,
        f"umask 077; echo http://key@127.0.0.1:{PORT}/1 >/root/sentry_dsn; systemctl stop sink 2>/dev/null; "
        f"systemd-run --collect --unit=sink --quiet python3 /root/sink.py {PORT}",
    )


def restart(bench: Bench, lines: list[str]) -> None:
    """Run the service with these lines in its unit, until the front door serves what it answers."""
    host = bench.fleet.names("app_server")[0]
    text = "\\n".join(["[Service]", *lines, ""])
    write = f"mkdir -p {Path(DROP_IN).parent}; printf '{text}' >{DROP_IN}" if lines else f"rm -f {DROP_IN}"
    bench.fleet.run(host, f"{write}; systemctl daemon-reload && systemctl restart app")
    bench.fleet.await_answer(bench.generator, f"{bench.front_door}/readyz", seconds=30)


def measure(bench: Bench, variant: str, route: str) -> dict[str, Any]:
    """Return what wrk counted, and as ``unsent`` the spans and reports that were dropped meanwhile."""
    before = unsent(bench.fleet)
    say(variant)
    found = bench.measure(OURS, route, CONNECTIONS)
    return {**found, "unsent": unsent(bench.fleet) - before}


def unsent(fleet: Fleet) -> int:
    host, address = fleet.names("app_server")[0], fleet.private("app_server")[0]
    said = fleet.run(host, "curl", "--silent", "--max-time", "20", f"http://{address}:8000/metrics")
    return int(sum(float(value) for value in re.findall(r"^telemetry_unsent_total\{\S+ (\S+)$", said, re.MULTILINE)))


if __name__ == "__main__":
    sys.exit(main())
