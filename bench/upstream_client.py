#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one call to the external API costs by each HTTP client, and how that grows with the calls under way.

Flow: bench/upstream.py on loopback -> for each client and number of calls under way one process that calls for some
seconds -> calls a second, its CPU for each call, its memory -> bench/results/upstream_client.json.
Usage: bench/upstream_client.py [--rounds 3] [--seconds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import uvloop
from fleet import RESULTS, upstream

RESULT = RESULTS / "upstream_client.json"
PORT = 9100
BASE = f"http://127.0.0.1:{PORT}"
UNDER_WAY = (64, 2000)
POSTS = 100

Call = Callable[[int], Awaitable[Any]]


@asynccontextmanager
async def httpx_alone() -> AsyncIterator[Call]:
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=BASE, limits=limits, timeout=30) as client:
        yield lambda number: over_httpx(client, number)


@asynccontextmanager
async def httpx_over_aiohttp() -> AsyncIterator[Call]:
    import httpx
    from httpx_aiohttp import AiohttpTransport

    transport = AiohttpTransport(limits=httpx.Limits(max_connections=None))
    async with httpx.AsyncClient(base_url=BASE, transport=transport, timeout=30) as client:
        yield lambda number: over_httpx(client, number)


@asynccontextmanager
async def httpx_over_pyreqwest() -> AsyncIterator[Call]:
    import httpx
    from pyreqwest.compatibility.httpx import HttpxTransport

    async with httpx.AsyncClient(base_url=BASE, transport=HttpxTransport(), timeout=30) as client:
        yield lambda number: over_httpx(client, number)


async def over_httpx(client: Any, number: int) -> Any:
    return orjson.loads((await client.get(f"/posts/{number}")).content)


@asynccontextmanager
async def aiohttp() -> AsyncIterator[Call]:
    from aiohttp import ClientSession, TCPConnector

    async with ClientSession(BASE, connector=TCPConnector(limit=0)) as session:

        async def call(number: int) -> Any:
            async with session.get(f"/posts/{number}") as response:
                return orjson.loads(await response.read())

        yield call


@asynccontextmanager
async def pyreqwest() -> AsyncIterator[Call]:
    from pyreqwest.client import ClientBuilder

    async with ClientBuilder().no_proxy().build() as client:

        async def call(number: int) -> Any:
            async with client.get(f"{BASE}/posts/{number}").build_streamed() as response:
                body = await response.body_reader.read(64 * 1024)
            return orjson.loads(memoryview(body or b""))

        yield call


CLIENTS = {
    "httpx": httpx_alone,
    "httpx over httpx-aiohttp": httpx_over_aiohttp,
    "httpx over pyreqwest": httpx_over_pyreqwest,
    "aiohttp": aiohttp,
    "pyreqwest": pyreqwest,
}


async def measure(client: str, under_way: int, seconds: float) -> dict[str, Any]:
    """Return a row of what this process did."""
    done = 0
    end = time.monotonic() + seconds
    async with CLIENTS[client]() as call:

        async def caller(number: int) -> None:
            nonlocal done
            while time.monotonic() < end:
                number = number % POSTS + 1
                assert (await call(number))["id"] == number
                done += 1

        used = time.process_time()
        await asyncio.gather(*map(caller, range(under_way)))
        used = time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    row = {"client": client, "under_way": under_way, "calls_a_second": round(done / seconds)}
    return {**row, "cpu_us_each": round(used / done * 1e6), "memory_mib": memory}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # client, calls under way
    options = parser.parse_args()
    if options.one:
        client, under_way = options.one
        print(json.dumps(uvloop.run(measure(client, int(under_way), options.seconds))))
        return 0
    rows = []
    with upstream(latency=0, processes=1, port=PORT, namespace=""):
        for number in range(options.rounds):
            for client in CLIENTS:
                for under_way in UNDER_WAY:
                    words = [sys.executable, __file__, "--seconds", str(options.seconds)]
                    command = [*words, "--one", client, str(under_way)]
                    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                    rows.append({"round": number, **json.loads(said)})
                    print(rows[-1], file=sys.stderr)
    result = {"summary": summary(rows), "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["summary"], indent=2))
    return 0


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the medians for each client and number of calls under way."""
    found = []
    for client in CLIENTS:
        for under_way in UNDER_WAY:
            own = [row for row in rows if (row["client"], row["under_way"]) == (client, under_way)]
            keys = ("calls_a_second", "cpu_us_each", "memory_mib")
            medians = {key: statistics.median(row[key] for row in own) for key in keys}
            found.append({"client": client, "under_way": under_way, **medians})
    return found


if __name__ == "__main__":
    sys.exit(main())
