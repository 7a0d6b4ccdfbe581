"""Results of a bench that never ran: every file, with values that show what the page makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RATES = {  # requests a second: cached, calling out
    "items, haproxy": (8453.3, 1280.3),
    "items, nginx": (7914.8, 1145.2),
    "items, no load balancer": (9583.0, 1402.0),
    "fastapi": (2055.3, 105.8),
    "fastify": (8109.7, 793.2),
    "published": (27.7, 40.8),
}
ROUTES = ("cached", "calling_out")
GIB = 2**30


def row(contender: str, route: str, connections: int = 64, share: float = 1.0) -> dict[str, Any]:
    rate = RATES[contender][ROUTES.index(route)] * share
    p50 = round(1000 * connections / rate, 2)
    return {
        **{"contender": contender, "route": route, "connections": connections, "requests": int(rate * 8)},
        **{"microseconds": 8_000_000, "failed": 0, "requests_a_second": round(rate, 1)},
        **{"p50_ms": p50, "p95_ms": round(1.8 * p50, 2), "p99_ms": round(2.6 * p50, 2)},
    }


def throughput() -> dict[str, Any]:
    pairs = [(contender, route) for contender in RATES for route in ROUTES]
    summary = []
    for contender, route in pairs:
        found = row(contender, route)
        kept = {key: found[key] for key in ("contender", "route", "requests_a_second", "p50_ms", "p99_ms", "failed")}
        ours = row("items, haproxy", route)["requests_a_second"]
        summary.append({**kept, "ratio": round(ours / found["requests_a_second"], 2)})
    shares = {8: 0.6, 32: 0.9, 128: 1.0, 512: 0.97, 2048: 0.85}
    open_loop = [
        {**row(f"items, {engine}", route, 2000, 0.7), "rate": 5917.3, "p99_to_p50": ratio}
        for engine, ratio in (("haproxy", 2.4), ("nginx", 3.6))
        for route in ROUTES
    ]
    return {
        **{"connections": 64, "workers": 2, "summary": summary},
        "rows": [{"round": number, **row(*pair)} for number in range(3) for pair in pairs],
        "sweep": [row(*pair, connections, share) for pair in pairs for connections, share in shares.items()],
        "open_loop": open_loop,
    }


def hold_run(engine: str, route: str, requests: int, failed: int = 0) -> dict[str, Any]:
    """A run that fills in 60 s, holds what did not fail for 20 s, and lets go."""
    most = requests - failed
    kib = 36.4 if route == "long_poll" else 171.0
    samples = []
    for second in range(0, 92, 4):
        flying = int(most * max(0.0, min(1.0, second / 60, (90 - second) / 10)))
        memory = int(2.2 * GIB + flying * (kib + 0.6) * 1024)
        samples.append({"seconds": second + 0.3, "in_flight": flying, "memory": memory, "client": 600 * flying})
    return {
        **{"engine": engine, "route": route, "requests": requests, "app_servers": 4, "rate": 4000.0},
        **{"load_balancers": 6 if requests < 100_000 else 28, "site_seconds": 236, "opened": requests},
        **{"sent": requests, "answered": most, "failed": failed, "most_in_flight": most, "seconds": 91.0},
        "failures": {"status 503": failed} if failed else {},
        **{"seconds_held": 0.0 if failed else 20.0, "requests_in_flight": most},
        **{"memory_kib_each": kib, "latency": 0.0, "samples": samples},
    }


def in_flight() -> list[dict[str, Any]]:
    return [
        hold_run("haproxy", "calling_out", 50_000),
        hold_run("nginx", "calling_out", 50_000, failed=11_814),
        hold_run("haproxy", "long_poll", 250_000),
        hold_run("nginx", "long_poll", 250_000),
    ]


def upstream_client() -> dict[str, Any]:
    rows = [
        {"client": name, "under_way": number, "calls_a_second": 1e6 / cost, "cpu_us_each": cost, "memory_mib": 50}
        for name, cost in (("httpx", 1500), ("aiohttp", 200), ("pyreqwest", 90))
        for number in (64, 2000)
    ]
    return {"summary": rows, "rows": []}


def engines() -> dict[str, Any]:
    summary = []
    for engine, ratio, memory in (("uvicorn", 1.0, 141), ("gunicorn", 0.82, 152), ("granian", 1.19, 118)):
        for route in ROUTES:
            found = row("items, haproxy", route, share=ratio)
            kept = {key: found[key] for key in ("route", "requests_a_second", "p50_ms", "p99_ms", "failed")}
            summary.append({"engine": engine, **kept, "memory_mib": memory, "ratio": ratio})
    return {"connections": 64, "workers": 2, "summary": summary, "rows": []}


def observers() -> dict[str, Any]:
    summary = []
    for variant, ratio, unsent in (("none", 1.0, 0), ("metrics", 0.97, 0), ("traces of all", 0.41, 20_143)):
        for route in ROUTES:
            found = row("items, haproxy", route, share=ratio)
            kept = {key: found[key] for key in ("route", "requests_a_second", "p50_ms", "p99_ms", "failed")}
            summary.append({"variant": variant, **kept, "ratio": ratio, "p99_ratio": 1 / ratio, "unsent": unsent})
    return {"connections": 64, "workers": 2, "summary": summary, "rows": []}


def profiles() -> dict[str, Any]:
    rows = [
        {"version": version, "route": route, "cpu_us_each": cost, "requests_a_second": 1e6 / cost, "failed": 0}
        | {"load_balancer_cpu_us_each": 25.1, "flame_graph": f"profile-{version}-{route}.svg"}
        for version, cost in (("after", 180.4), ("before", 5120.9))
        for route in ROUTES
    ]
    return {"before": "cfa60f6", "rows": rows}


def results() -> dict[str, Any]:
    plugins = {"c50k.stack.linode": (5.19, 40, 10_000), "community.general.linode": (8.26, 100, 0)}
    median = {
        name: {"seconds": seconds, "mib": 170.7, "calls": calls, "hosts": 10_000, "hosts_with_vpc_address": with_vpc}
        for name, (seconds, calls, with_vpc) in plugins.items()
    }
    return {
        **{
            "in_flight": in_flight(),
            "throughput": throughput(),
            "engines": engines(),
            "observers": observers(),
            "profiles": profiles(),
            "upstream_client": upstream_client(),
        },
        "inventory": {"instances": 10_000, "rounds": 3, "median": median, "runs": {}},
        "failover": {
            "seconds_off": 60,
            "losses": [
                {
                    "host": f"bench-postgres-{number}",
                    **{"gap_seconds": 19.5 + number, "promoted_seconds": 18.0, "whole_seconds": 70.2},
                    **{"ok": 5000, "failed": 0, "unknown": 28, "unknown_and_there": 1, "lost": 0},
                }
                for number in (1, 2, 3)
            ],
        },
        "move_shard": [
            {
                "rows": rows,
                "moves": [{"shard": shard, "seconds": 1.5, "pause_ms": rows / 100 + shard} for shard in (1, 2, 3)],
                **{"ok": 900, "failed": 0, "unknown": 0, "lost": 0, "slowest_write_seconds": 0.21},
            }
            for rows in (1_000, 10_000)
        ],
        "provision": {"instances": 50, "runs": [{"run": "provision", "seconds": 51.0, "calls": 105, "by_kind": {}}]},
        "firewall": {
            "rounds": 22,
            "ratio_to_none": {"on both": {"connections": 0.75, "requests": 0.87, "gigabits": 0.93}},
        },
    }


def write(folder: Path) -> None:
    for name, content in results().items():
        (folder / f"{name}.json").write_text(json.dumps(content))
