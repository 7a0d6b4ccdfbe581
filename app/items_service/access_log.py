"""A line of JSON for each request, on standard output.

Data: what is known of a request when its answer ends. Flow: the event loop -> a queue -> a thread that writes, so that
nobody waits for whoever reads the log; where that does not keep up lines are dropped, and the next one says how many.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from items_service.observed import Seen, request_id

MOST = 10_000  # lines that wait
BATCH = 500  # lines that are written at once
PERIOD = 0.05  # seconds that lines wait: a thread that woke for each would take the event loop's turn as often
STDOUT = 1

Line = dict[str, Any]


class Writer:
    """Writes lines from a thread of its own, which starts with the first and ends with the process."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._queue: SimpleQueue[Line] = SimpleQueue()
        self._dropped = 0
        self._started = False

    def put(self, line: Line) -> None:
        if self._queue.qsize() >= MOST:
            self._dropped += 1
            return
        if self._dropped:
            line["dropped"], self._dropped = self._dropped, 0
        self._queue.put(line)
        if not self._started:
            self._started = True  # not sooner: the workers are forks of whoever imported this
            threading.Thread(target=self._write_all, name="access log", daemon=True).start()

    def _write_all(self) -> None:
        while True:
            lines = [self._queue.get()]
            time.sleep(PERIOD)
            while lines:
                self._write(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
                lines = [self._queue.get() for _ in range(min(BATCH, self._queue.qsize()))]


def write_all(data: bytes, file: int = STDOUT) -> None:
    """Write all of it, whatever the size of the pipe."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(file, view) :]
        except OSError:  # nobody reads any more
            return


def after_the_last_line(send: Send) -> Send:
    """A `send` that says only then that all has ended."""

    async def wait_and_send(message: Message) -> None:
        if message["type"] == "lifespan.shutdown.complete":
            await asyncio.sleep(2 * PERIOD)
        await send(message)

    return wait_and_send


class AccessLog:
    """Logs each request: never its query or its headers, where secrets may be, but for the request id."""

    def __init__(self, app: ASGIApp, release: str) -> None:
        self.app = app
        self._release = release
        self._writer = Writer(write_all)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, after_the_last_line(send))
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        seen = Seen(send)
        began = time.perf_counter()
        try:
            await self.app(scope, receive, seen.send)
        finally:
            self._writer.put(
                {
                    "time": datetime.now(UTC),
                    "request_id": request_id(scope),
                    "client": scope["client"][0] if scope["client"] else None,
                    "method": scope["method"],
                    "path": scope["path"],
                    "status": seen.status,
                    "bytes": seen.size,
                    "duration_ms": round((time.perf_counter() - began) * 1000, 3),
                    "release": self._release,
                }
            )
