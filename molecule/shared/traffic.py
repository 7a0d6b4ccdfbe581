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
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import websockets.asyncio.client
import websockets.exceptions

NAMESPACE = "c50k-clients"  # where the lab's clients are
TIMEOUT = 10.0
PAUSE = 0.05  # seconds between two requests of one client
LIMIT = 900.0  # seconds after which it ends by itself
KEPT_FAILURES = 20
PLANNED = (1001, 1012)


@dataclass
class Kind:
    """How the requests of one kind ended; ``failures`` are (seconds since the start, reason)."""

    ok: int = 0
    moved: int = 0
    failed: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)


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
        work = [self._repeat("GET", self._kept, "GET", self._get) for _ in range(4)]
        work += [self._repeat("GET, new connection", self._fresh, "GET", self._get)]
        if self._post:
            work += [self._repeat("POST", self._kept, "POST", self._post) for _ in range(2)]
        if self._websocket:
            work += [self._sockets() for _ in range(2)]
        await asyncio.gather(*work)

    def _failed(self, kind: Kind, reason: object) -> None:
        kind.failed += 1
        if len(kind.failures) < KEPT_FAILURES:
            kind.failures.append((round(time.monotonic() - self._start, 3), repr(reason)))

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), PAUSE)

    async def _repeat(self, name: str, send: Callable[..., Awaitable[None]], method: str, path: str) -> None:
        kind = self.kinds.setdefault(name, Kind())
        async with httpx.AsyncClient(base_url=self._url, timeout=TIMEOUT) as client:
            while not self._ended.is_set():
                try:
                    await send(client, method, path)
                    kind.ok += 1
                except (httpx.HTTPError, ValueError) as error:
                    self._failed(kind, error)
                await self._pause()

    async def _kept(self, client: httpx.AsyncClient, method: str, path: str) -> None:
        content = self._body if method == "POST" else None
        answer = await client.request(method, path, content=content, headers={"Content-Type": "application/json"})
        if not answer.is_success:
            raise ValueError(f"{answer.status_code} {answer.text[:200]}")
        if not isinstance(answer.json(), dict | list):
            raise ValueError(f"not the body it should be: {answer.text[:200]}")

    async def _fresh(self, client: httpx.AsyncClient, method: str, path: str) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=TIMEOUT) as once:
            await self._kept(once, method, path)

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
    parser.add_argument("--get", default="/")
    parser.add_argument("--post", default="", help="path of a POST")
    parser.add_argument("--body", default="{}")
    parser.add_argument("--websocket", default="", help="path of a WebSocket that echoes")
    parser.add_argument("--websocket-seconds", type=float, default=LIMIT, help="how long the client keeps one open")
    arguments = parser.parse_args()
    client = Client(**vars(arguments))
    loop = asyncio.get_running_loop()
    loop.call_later(LIMIT, client.end)

    def until_input_ends() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(client.end)

    threading.Thread(target=until_input_ends, daemon=True).start()
    await client.run()
    print(json.dumps({name: asdict(kind) for name, kind in client.kinds.items()}))


class Traffic:
    """Traffic for the length of a ``with`` block, from the lab's clients; ``report`` has the counts by kind."""

    def __init__(self, url: str, *options: str) -> None:
        inside = ["ip", "netns", "exec", NAMESPACE, sys.executable, str(Path(__file__).resolve())]
        self._command = [*inside, url, *options]
        self.report: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Traffic:
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        time.sleep(2)  # on its way
        assert self._process.poll() is None, "the counting client did not start"
        return self

    def __exit__(self, *_: object) -> None:
        output, _errors = self._process.communicate(timeout=60)
        self.report = json.loads(output)

    def check(self) -> None:
        """Fail unless every kind was sent and none failed."""
        print("traffic:", {name: (kind["ok"], kind["moved"], kind["failed"]) for name, kind in self.report.items()})
        failed = {name: kind["failures"] for name, kind in self.report.items() if kind["failed"]}
        assert not failed, failed
        assert self.report and all(kind["ok"] > 10 for kind in self.report.values()), self.report


if __name__ == "__main__":
    asyncio.run(main())
