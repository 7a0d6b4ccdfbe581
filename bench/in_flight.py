#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many requests the whole stack holds at once: client, load balancers, app hosts, and none may fail.

Flow: the fleet for a target (site.yml) -> an external API that takes its time, or items that are written at the end ->
the holder on the load generator opens every request and counts how each ends, while the app hosts' own gauge and the
machine's memory are read -> bench/results/in_flight.json, one row for each engine and route.
Usage: bench/in_flight.py [--engine haproxy] [--route calling_out] [--requests 50000] [--load-balancers 6]
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

from fleet import RESULTS, Fleet, memory, memory_used, play, tiers, upstream

RESULT = RESULTS / "in_flight.json"
APP_SERVERS = 4
ITEMS = 1000  # that are there from the first migration on
HELD = 10.0  # seconds at least
MEMORY_TO_SPARE = int(1.5 * 2**30)  # bytes; with less the machine would end something of its own choice
HOLDER = "/usr/local/lib/hold.py"
UPSTREAM_FILES = 18_000  # connections of one process of the external API

ROUTES: dict[str, dict[str, Any]] = {
    # past the caches, so that each request makes its own two calls
    "calling_out": {
        "path": "/items/{id}?source=replica",
        "want": ['"id":{id},', '"details":{"userId":1,'],
        "rate": 400,
    },
    "long_poll": {"path": "/items/{id}/changes?timeout=600", "want": ['"id":{id},', '"name":"written"'], "rate": 1500},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", choices=["haproxy", "nginx"], default="haproxy")
    parser.add_argument("--route", choices=list(ROUTES), default="calling_out")
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--load-balancers", type=int, default=6)
    parser.add_argument("--rate", type=float, help="connections a second while it fills")
    parser.add_argument("--as-it-is", action="store_true", help="leave the fleet as the run before made it")
    options = parser.parse_args()
    route = ROUTES[options.route]
    rate = options.rate or float(route["rate"])

    seconds = None
    if not options.as_it_is:
        say(f"site.yml: {options.load_balancers} load balancers with {options.engine}, {APP_SERVERS} app hosts")
        # a tenth more than is asked for, as no distribution is even
        seconds = play(
            "site",
            fleet_tiers=tiers(options.load_balancers, APP_SERVERS, 1),
            target_concurrency=options.requests * 11 // 10,
            load_balancer_engine=options.engine,
        )
    fleet = Fleet()
    start_afresh(fleet, options.engine)
    if options.route == "calling_out":
        latency = options.requests / rate + 2 * HELD
        with upstream(latency, processes=2 * options.requests // UPSTREAM_FILES + 1):
            row = hold(fleet, options, rate, latency=latency)
    else:
        row = hold(fleet, options, rate)
    shape = {"engine": options.engine, "route": options.route, "requests": options.requests}
    hosts = {"load_balancers": options.load_balancers, "app_servers": APP_SERVERS}
    row = {**shape, **hosts, "rate": rate, "site_seconds": seconds and round(seconds), **row}
    print(json.dumps(row, indent=2))
    record(row)
    return 0 if row["failed"] == 0 and row["requests_in_flight"] >= options.requests else 1


def start_afresh(fleet: Fleet, engine: str) -> None:
    """Start the app hosts' and the load balancers' services again, so that none has memory of an earlier run."""

    def start(unit: str, name: str, address: str) -> None:
        fleet.run(name, f"systemctl restart {unit}")
        fleet.await_answer(name, f"http://{address}/readyz", seconds=60)

    with ThreadPoolExecutor(max_workers=4) as executor:
        apps = [f"{address}:8000" for address in fleet.private("app_server")]
        list(executor.map(start, repeat("app"), fleet.names("app_server"), apps))
        list(executor.map(start, repeat(engine), fleet.names("load_balancer"), fleet.public("load_balancer")))


def hold(fleet: Fleet, options: argparse.Namespace, rate: float, latency: float = 0.0) -> dict[str, Any]:
    """Fill, hold, let go; return what the holder counted and what was read meanwhile."""
    route = ROUTES[options.route]
    generator = fleet.names("load_generator")[0]
    words = ["python3", HOLDER, *(f"http://{address}" for address in fleet.public("load_balancer"))]
    words += ["--requests", str(options.requests), "--rate", str(rate), "--ids", str(ITEMS), "--timeout", "600"]
    words += ["--path", shlex.quote(route["path"])]
    words += [word for part in route["want"] for word in ("--want", shlex.quote(part))]
    watch = Watch(fleet, generator)
    before = memory_used()
    process = subprocess.Popen(fleet.ssh(generator, *words), stdout=subprocess.PIPE, text=True)
    watch.start()
    if options.route == "long_poll":
        while process.poll() is None and watch.seconds_held(options.requests) < HELD:
            time.sleep(1)
        if process.poll() is None:
            say(f"{options.requests} in flight for {HELD:.0f} s: writing {ITEMS} items")
            write_items(fleet)
    output, _nothing = process.communicate()
    watch.stop()
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    most = max(watch.samples, key=lambda sample: sample["in_flight"])
    held = [sample for sample in watch.samples if sample["in_flight"] >= 0.98 * most["in_flight"]]
    gained = max(sample["memory"] - sample["client"] for sample in held) - before
    return {
        **report,
        "requests_in_flight": most["in_flight"],
        "seconds_held": round(watch.seconds_held(options.requests), 1),
        "memory_kib_each": round(gained / most["in_flight"] / 1024, 1),
        "latency": latency,
        "samples": watch.samples,
    }


class Watch(threading.Thread):
    """Reads the app hosts' gauge and the memory, about every two seconds."""

    def __init__(self, fleet: Fleet, generator: str) -> None:
        super().__init__(daemon=True)
        self._fleet, self._generator = fleet, generator
        self._client_before = self._client_bytes()
        self._ended = threading.Event()
        self._begun = time.monotonic()
        self.samples: list[dict[str, Any]] = []

    def run(self) -> None:
        while not self._ended.wait(2):
            try:
                seen = {
                    "in_flight": self._fleet.in_flight(),
                    "memory": memory_used(),
                    "client": self._client_bytes() - self._client_before,
                }
            except (subprocess.CalledProcessError, ValueError) as error:
                say(f"not read: {error}")
                continue
            if memory("MemAvailable") < MEMORY_TO_SPARE:
                say(f"less than {MEMORY_TO_SPARE / 2**30:g} GiB of memory are left: the holder ends")
                self._fleet.run(self._generator, "pkill", "-f", f"[{HOLDER[0]}]{HOLDER[1:]}")
                return
            self.samples.append({"seconds": round(time.monotonic() - self._begun, 1), **seen})
            say(f"the app hosts say {seen['in_flight']:,}; memory {seen['memory'] / 2**30:.2f} GiB")

    def _client_bytes(self) -> int:
        """Return the bytes that the load generator's control group has, its sockets among them."""
        script = (
            "cd /sys/fs/cgroup/memory && awk '/^total_rss / {print $2}' memory.stat && cat memory.kmem.usage_in_bytes"
        )
        return sum(int(line) for line in self._fleet.run(self._generator, script).splitlines())

    def seconds_held(self, requests: int) -> float:
        """Return for how long the gauge has shown so many."""
        times = [sample["seconds"] for sample in self.samples if sample["in_flight"] >= requests]
        return float(times[-1] - times[0]) if times else 0.0

    def stop(self) -> None:
        self._ended.set()
        self.join()


def write_items(fleet: Fleet) -> None:
    """Write each item once, which wakes all who wait for it, on whichever host."""
    # in the generator's place: from this machine's own address, past the load balancers under load
    address = fleet.private("app_server")[0]
    script = (
        f"seq 1 {ITEMS} | xargs -P 8 -I N curl --silent --show-error --fail --output /dev/null --request PUT "
        f'--json \'{{"name": "written"}}\' http://{address}:8000/items/N'
    )
    fleet.run(fleet.names("app_server")[0], script)


def record(row: dict[str, Any]) -> None:
    """Put the row in the place of the one for the same engine, route and number."""
    rows = json.loads(RESULT.read_text()) if RESULT.exists() else []
    key = ("engine", "route", "requests")
    rows = [other for other in rows if [other[name] for name in key] != [row[name] for name in key]]
    RESULT.write_text(json.dumps([*rows, row], indent=1) + "\n")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
