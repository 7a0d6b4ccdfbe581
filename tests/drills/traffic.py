#!/usr/bin/env python
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client that counts: steady requests to one front door, and how each of them ended.

Flow: started beside a change of the fleet -> GET and POST on connections kept alive, GET on a new connection each time,
a WebSocket echo -> at the end of its input a JSON report. Nothing is sent twice. A WebSocket that the server closes as
going away (1001) or restarting (1012), and that opens again at once, counts as ``moved``; any other end is a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx
import websockets.asyncio.client
import websockets.exceptions
from among_clients import LIMIT, AmongClients, until_input_ends

TIMEOUT = 15.0  # seconds; longer than the service takes to give up
PAUSE = 0.1  # seconds between two requests of one client
KEPT_FAILURES = 20
DIFFERENT = 20  # numbers that take the place of {} in a path
PLANNED = (1001, 1012)


@dataclass
class Kind:
    """How the requests of one kind ended; ``failures`` are (seconds since the start, reason), ``seconds`` durations."""

    ok: int = 0
    moved: int = 0
    failed: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Client:
    """Sends until told to stop. ``kinds`` counts."""

    def __init__(self, url: str, get: str, post: str, body: str, websocket: str, websocket_seconds: float) -> None:
        self._url = url
        self._websocket_seconds = websocket_seconds
        self._get, self._post, self._body, self._websocket = get, post, body, websocket
        self._start = time.monotonic()
        self._ended = asyncio.Event()
        self.kinds: dict[str, Kind] = {}

    def end(self) -> None:
        self._ended.set()

    async def run(self) -> None:
        work = [self._repeat("GET", "GET", self._get) for _client in range(4)]
        work += [self._repeat("GET, new connection", "GET", self._get, kept=0)]
        if self._post:
            work += [self._repeat("POST", "POST", self._post) for _client in range(2)]
        if self._websocket:
            work += [self._sockets() for _client in range(2)]
        await asyncio.gather(*work)

    def _failed(self, kind: Kind, reason: object) -> None:
        kind.failed += 1
        if len(kind.failures) < KEPT_FAILURES:
            kind.failures.append((round(time.monotonic() - self._start, 3), repr(reason)))

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), PAUSE)

    async def _repeat(self, name: str, method: str, path: str, kept: int = 1) -> None:
        """Send over a connection that is kept, or with `kept` 0 over a new one each time."""
        kind = self.kinds.setdefault(name, Kind())
        limits = httpx.Limits(max_keepalive_connections=kept)
        async with httpx.AsyncClient(base_url=self._url, timeout=TIMEOUT, limits=limits) as client:
            while not self._ended.is_set():
                started = time.monotonic()
                try:
                    await self._send(client, method, path.format(random.randint(1, DIFFERENT)))
                    kind.ok += 1
                    kind.seconds.append(round(time.monotonic() - started, 4))
                except (httpx.HTTPError, ValueError) as error:
                    self._failed(kind, error)
                await self._pause()

    async def _send(self, client: httpx.AsyncClient, method: str, path: str) -> None:
        content = self._body if method == "POST" else None
        answer = await client.request(method, path, content=content, headers={"Content-Type": "application/json"})
        if not answer.is_success:
            raise ValueError(f"{answer.status_code} {answer.text[:200]}")
        if not isinstance(answer.json(), dict | list):
            raise ValueError(f"not the body it should be: {answer.text[:200]}")

    async def _sockets(self) -> None:
        kind = self.kinds.setdefault("WebSocket", Kind())
        url = self._url.replace("http", "ws", 1) + self._websocket
        number = 0
        while not self._ended.is_set():
            try:
                async with websockets.asyncio.client.connect(url, open_timeout=TIMEOUT, proxy=None) as socket:
                    until = time.monotonic() + self._websocket_seconds
                    while not self._ended.is_set() and time.monotonic() < until:
                        number += 1
                        await socket.send(str(number))
                        said = await asyncio.wait_for(socket.recv(), TIMEOUT)
                        if said != str(number):
                            raise ValueError(f"{number} came back as {said!r}")
                        kind.ok += 1
                        await self._pause()
            except websockets.exceptions.ConnectionClosed as closed:
                if closed.rcvd and closed.rcvd.code in PLANNED:
                    kind.moved += 1
                else:
                    self._failed(kind, closed)
            except (OSError, ValueError, websockets.exceptions.WebSocketException) as error:
                self._failed(kind, error)
                await self._pause()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--get", default="/", help="path of a GET; {} is a number, another one each time")
    parser.add_argument("--post", default="", help="path of a POST")
    parser.add_argument("--body", default="{}")
    parser.add_argument("--websocket", default="", help="path of a WebSocket that echoes")
    parser.add_argument("--websocket-seconds", type=float, default=LIMIT, help="how long the client keeps one open")
    arguments = parser.parse_args()
    client = Client(**vars(arguments))
    await until_input_ends(client.run(), client.end)
    print(json.dumps({name: asdict(kind) for name, kind in client.kinds.items()}))


class Traffic(AmongClients):
    """Traffic for the length of a ``with`` block, from the lab's clients."""

    def __init__(self, url: str, *options: str) -> None:
        super().__init__("traffic.py", url, *options)

    @property
    def report(self) -> dict[str, dict[str, Any]]:
        """The counts by kind."""
        return self.printed

    def p99(self, kind: str) -> float:
        """Return how many milliseconds the slowest of a hundred answers took, failures aside."""
        return 1000 * statistics.quantiles(self.report[kind]["seconds"], n=100)[-1]

    def check(self) -> None:
        """Fail unless every kind was sent and none failed."""
        print("traffic:", {name: (kind["ok"], kind["moved"], kind["failed"]) for name, kind in self.report.items()})
        failed = {name: kind["failures"] for name, kind in self.report.items() if kind["failed"]}
        assert not failed, failed
        assert self.report and all(kind["ok"] > 10 for kind in self.report.values()), self.report


if __name__ == "__main__":
    asyncio.run(main())
