# SPDX-License-Identifier: GPL-3.0-or-later
"""What one GET costs, function by function, in an ASGI application that nobody else asks.

Flow: the application starts in this process, as under a server but without a socket -> requests one after the other: a
few to get warm, then timed ones, then ones under cProfile -> one line of JSON on standard output, {"text": two tables,
"profile": what pstats loads, in base64}. The application's own output goes to standard error.
Usage, in the application's folder: route.py MODULE:ATTRIBUTE PATH SECONDS
"""

from __future__ import annotations

import asyncio
import base64
import cProfile
import importlib
import io
import json
import marshal
import os
import pstats
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

WARM_UP = 20
REQUESTS = 200  # or fewer, where they take longer than they may
ROWS = 40
# Of a path in the tables, what is before the package.
BEFORE = re.compile(r"/\S*/(?:site-packages|python3\.\d+)/")

Application = Callable[..., Any]


class Failed(Exception):
    """The message says why, for whoever asked."""


@asynccontextmanager
async def started(application: Application) -> AsyncIterator[dict[str, Any]]:
    """While it lasts the application has started; yields the state that requests get."""
    state: dict[str, Any] = {}
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    running = asyncio.ensure_future(application(scope, told.get, said.put))

    async def tell(kind: str) -> None:
        """A service that knows no lifespan ends at once, with an error or without."""
        await told.put({"type": f"lifespan.{kind}"})
        answer = asyncio.ensure_future(said.get())
        await asyncio.wait({answer, running}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done() and answer.result()["type"] == f"lifespan.{kind}.failed":
            raise Failed(f"the application fails at its {kind}: {answer.result().get('message', '')}")
        answer.cancel()

    await tell("startup")
    try:
        yield state
    finally:
        if not running.done():
            await tell("shutdown")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def get(application: Application, address: str, state: dict[str, Any]) -> int:
    """Ask for the address, a path with or without a query; return the status."""
    path, _mark, query = address.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost"), (b"user-agent", b"profile")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": state.copy(),
    }
    asked = False
    status = 0

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # the client stays
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    try:
        await application(scope, receive, send)
    except Exception as error:
        if not status:  # else a server would have sent the answer, and logged the error
            raise Failed(f"GET {address} ends with {type(error).__name__} and no answer: {error}") from error
    return status


async def ask(ask_once: Callable[[], Any], number: int, seconds: float) -> tuple[Counter[int], float]:
    """Ask so often, or until the time is over; return how often each status was, and the seconds each took."""
    statuses: Counter[int] = Counter()
    began = time.perf_counter()
    while sum(statuses.values()) < number and time.perf_counter() - began < seconds:
        statuses[await ask_once()] += 1
    return statuses, (time.perf_counter() - began) / sum(statuses.values())


async def profile(application: Application, address: str, seconds: float) -> tuple[str, cProfile.Profile]:
    """Return what there is to say, and the profile."""
    profiler = cProfile.Profile()
    async with started(application) as state:

        async def ask_once() -> int:
            return await get(application, address, state)

        try:
            async with asyncio.timeout(seconds):
                await ask(ask_once, WARM_UP, seconds / 4)
                _statuses, alone = await ask(ask_once, REQUESTS, seconds / 4)
                profiler.enable()
                statuses, profiled = await ask(ask_once, REQUESTS, seconds / 4)
                profiler.disable()
        except TimeoutError:
            raise Failed(f"GET {address} is not answered in time; there were {seconds:g} s for all requests") from None
    answers = ", ".join(f"{number} with status {status}" for status, number in sorted(statuses.items()))
    each = f"{alone * 1000:.3f} ms each, one after the other; {profiled * 1000:.3f} ms under the profiler"
    return f"GET {address} on {socket.gethostname()}: {answers}.\n{each}.\n", profiler


def tables(profiler: cProfile.Profile) -> str:
    """Functions by the time in themselves, and by that with what they call."""
    text = io.StringIO()
    statistics = pstats.Stats(profiler, stream=text)
    for key in ("tottime", "cumulative"):
        statistics.sort_stats(key).print_stats(ROWS)
    return BEFORE.sub("", text.getvalue().replace(f"{os.getcwd()}/", ""))


def main() -> int:
    name, address, seconds = sys.argv[1:]
    output = os.dup(1)
    os.dup2(2, 1)  # what the application prints
    sys.path.insert(0, os.getcwd())
    module, _colon, attribute = name.partition(":")
    application = getattr(importlib.import_module(module), attribute)
    try:
        import uvloop

        loop_factory = uvloop.new_event_loop
    except ImportError:
        loop_factory = None
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            said, profiler = runner.run(profile(application, address, float(seconds)))
    except Failed as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        return 1
    text = said + tables(profiler)
    profiler.create_stats()
    kept = base64.b64encode(marshal.dumps(profiler.stats)).decode()  # as dump_stats does
    with os.fdopen(output, "w") as file:
        print(json.dumps({"text": text, "profile": kept}), file=file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
