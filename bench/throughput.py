#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""GET /items/{id} through the whole stack, beside the published design, FastAPI done well, and fastify.

Flow: a small fleet (site.yml) with the contenders on its app hosts, of which one runs at a time -> wrk on the load
generator, round after round, each contender and route in turn -> the median of each, and its ratio to ours in the same
round; then each over a number of connections; then ours with arrivals that do not wait for answers, at 70 % of the
most that the same generator gets -> bench/results/throughput.json.
Usage: bench/throughput.py [--rounds 3] [--seconds 8]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fleet import RESULTS, Fleet, play, tiers, upstream

RESULT = RESULTS / "throughput.json"
SCRIPTS = [Path(__file__).with_name(name) for name in ("items.lua", "arrivals.py")]
APP_SERVERS, WORKERS = 1, 2
ENGINES = {"items, haproxy": "haproxy", "items, nginx": "nginx"}
CONTENDERS = ("items, haproxy", "items, nginx", "items, no load balancer", "fastapi", "fastify", "published")
# The published design has no cache, and makes its calls on every route.
# How many items are asked for, and the query.
ROUTES = {"cached": (100, ""), "calling_out": (1000, "?source=replica")}
FIGURES = ("requests_a_second", "p50_ms", "p99_ms")
CONNECTIONS = 64
SWEEP = (8, 32, 128, 512, 2048)
SWEEP_SECONDS = 4
OPEN_LOOP_CONNECTIONS = 256
OPEN_LOOP_SHARE = 0.7


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS, help="ours first")
    parser.add_argument("--only-compare", action="store_true", help="not over connections, not open-loop")
    parser.add_argument("--as-it-is", action="store_true", help="leave the fleet as the run before made it")
    options = parser.parse_args()
    if not options.as_it_is:
        say("site.yml, and the contenders")
        for engine in ("nginx", "haproxy"):  # each leaves its configuration, and the last one serves
            hosts = tiers(1, APP_SERVERS, 1)
            play("site", fleet_tiers=hosts, app_server_workers=WORKERS, load_balancer_engine=engine)
        play("../bench/contenders/install", contender_workers=WORKERS)
    bench = Bench(Fleet(), options.seconds)
    bench.install()
    rows: list[dict[str, Any]] = []
    with upstream(latency=0, processes=1):
        for number in range(options.rounds):
            for contender in options.contenders:
                bench.start(contender)
                rows += [{"round": number, **bench.measure(contender, route, CONNECTIONS)} for route in ROUTES]
        sums = list(summary(rows, "contender", options.contenders, FIGURES, lambda own, ours: ours / own))
        result = {"connections": CONNECTIONS, "workers": APP_SERVERS * WORKERS, "summary": sums, "rows": rows}
        if not options.only_compare:
            result |= {"open_loop": open_loop(bench)}
            result |= {"sweep": sweep(Bench(bench.fleet, SWEEP_SECONDS), options.contenders)}
    bench.start(CONTENDERS[0])
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=2))
    return 0


def sweep(bench: Bench, contenders: list[str]) -> list[dict[str, Any]]:
    """Return a row for each contender, route and number of connections."""
    found = []
    for contender in contenders:
        bench.start(contender)
        found += [bench.measure(contender, route, connections) for route in ROUTES for connections in SWEEP]
    return found


def open_loop(bench: Bench) -> list[dict[str, Any]]:
    """Return a row for each of our engines and routes, at a share of the most that the generator of arrivals gets.

    It has more work with each request than wrk, on the same two cores, and so gets less than wrk.
    """
    found = []
    for contender in ENGINES:
        bench.start(contender)
        for route in ROUTES:
            most = bench.measure(contender, route, OPEN_LOOP_CONNECTIONS, rate=0)["requests_a_second"]
            rate = round(OPEN_LOOP_SHARE * most, 1)
            row = bench.measure(contender, route, OPEN_LOOP_CONNECTIONS, rate)
            row |= {"most": most, "rate": rate, "p99_to_p50": round(row["p99_ms"] / row["p50_ms"], 2)}
            found.append(row)
    return found


class Bench:
    def __init__(self, fleet: Fleet, seconds: int) -> None:
        self.fleet = fleet
        self.seconds = seconds
        self.balancer = fleet.names("load_balancer")[0]
        self.generator = fleet.names("load_generator")[0]
        self.front_door = f"http://{fleet.public('load_balancer')[0]}"

    def install(self) -> None:
        """Give the hosts that put load what they need for it."""
        wrk = "command -v wrk >/dev/null || apt-get install --quiet --yes --no-install-recommends wrk >/dev/null"
        for host in (self.generator, self.balancer):
            self.fleet.run(host, wrk)
            for script in SCRIPTS:
                command = self.fleet.ssh(host, f"cat >/root/{script.name}")
                subprocess.run(command, input=script.read_text(), text=True, check=True)

    def start(self, contender: str) -> None:
        """Let this contender alone serve, behind its load balancer."""
        service = "app" if contender.startswith("items") else f"contender-{contender}"
        others = "app contender-published contender-fastapi contender-fastify"
        for name, address in zip(self.fleet.names("app_server"), self.fleet.private("app_server"), strict=True):
            path = "/health" if contender == "published" else "/readyz"
            self.fleet.run(name, f"systemctl stop {others}; systemctl start {service}")
            self.fleet.await_answer(name, f"http://{address}:8000{path}", seconds=20)
        engine = ENGINES.get(contender, "haproxy")
        stop = "systemctl stop haproxy nginx; pkill -x nginx; sleep 0.5;"
        if contender == "published":
            self.fleet.run(self.balancer, f"{stop} nginx -c /etc/nginx/published.conf >/dev/null 2>&1 </dev/null")
        else:
            self.fleet.run(self.balancer, f"{stop} systemctl start {engine}; sleep 3")

    def measure(
        self, contender: str, route: str, connections: int, rate: float | None = None, warm: bool = False
    ) -> dict[str, Any]:
        """Return what wrk counted, or arrivals at that rate (0: all that are answered); warmed up first unless warm."""
        if not warm:
            self.warm_up(contender, route, connections)
        if rate is not None:
            output = self._arrivals(route, connections, rate)
        else:
            output = self._wrk(contender, route, connections, self.seconds)
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        found["requests_a_second"] = round(found["requests"] / found["microseconds"] * 1e6, 1)
        said = f"{found['requests_a_second']:>9,.0f}/s  p50 {found['p50_ms']:.1f} ms  p99 {found['p99_ms']:.1f} ms"
        say(f"{contender:24} {route:12} {connections:>5} connections {said}")
        return {"contender": contender, "route": route, "connections": connections, **found}

    def warm_up(self, contender: str, route: str, connections: int) -> None:
        self._wrk(contender, route, connections, seconds=2)

    def _wrk(self, contender: str, route: str, connections: int, seconds: int) -> str:
        if contender == "items, no load balancer":
            host, target = self.balancer, f"http://{self.fleet.private('app_server')[0]}:8000"
        else:
            host, target = self.generator, self.front_door
        items, query = ROUTES[route]
        wrk = f"wrk -t 1 -c {connections} -d {seconds} --timeout 10s -s /root/items.lua {target}"
        return self.fleet.run(host, f"ulimit -n hard; ITEMS={items} QUERY='{query}' {wrk}")

    def _arrivals(self, route: str, connections: int, rate: float) -> str:
        items, query = ROUTES[route]
        at_rate = f"--rate {rate} --connections {connections} --seconds {self.seconds}"
        asked = f"--items {items} --query '{query}'"
        return self.fleet.run(self.generator, f"python3 /root/arrivals.py {self.front_door} {at_rate} {asked}")


def summary(
    rows: list[dict[str, Any]],
    of: str,
    names: Sequence[str],
    figures: Sequence[str],
    ratio: Callable[[float, float], float],
) -> Iterator[dict[str, Any]]:
    """Yield for each name and route the medians, and as `ratio` that of its rate and the first name's, by round."""
    for name in names:
        for route in ROUTES:
            own, first = ([row for row in rows if (row[of], row["route"]) == (one, route)] for one in (name, names[0]))
            if own:
                rates = zip(*([row["requests_a_second"] for row in some] for some in (own, first)), strict=True)
                yield {
                    of: name,
                    "route": route,
                    **{figure: statistics.median(row[figure] for row in own) for figure in figures},
                    "failed": sum(row["failed"] for row in own),
                    "ratio": round(statistics.median(ratio(*pair) for pair in rates), 2),
                }


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
