"""What the service says of itself to Prometheus, all workers of a host together.

Data: a worker's own counts, plain numbers in its memory; files of all workers in $RUNTIME_DIRECTORY. Flow: a request
adds to the counts, which costs little; each half second what was added goes into the worker's file; whichever worker
is asked adds up the files.
"""

from __future__ import annotations

import asyncio
import os
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from items_service.observed import Seen, route

if "RUNTIME_DIRECTORY" in os.environ:  # read by prometheus_client as it is imported
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", os.environ["RUNTIME_DIRECTORY"])

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

PERIOD = 0.5  # seconds between two times that a worker writes what it counted
LAG_PERIOD = 0.1  # seconds between two looks at the event loop
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}
HOT = ("GET", "/items/{id}", "200")  # what an answer from a worker's memory counts as

IN_FLIGHT = Gauge("http_requests_in_flight", "Requests that are worked on", multiprocess_mode="livesum")
DURATION = Histogram(
    "http_request_duration_seconds",
    "From the request's head until the end of the answer",
    ["method", "route", "status"],
    buckets=SECONDS,
)
LAG = Histogram(
    "event_loop_lag_seconds", "How much later than it was to a timer of the event loop is called", buckets=SECONDS
)
ANSWERS = Counter("item_answers", "Answers of GET /items/{id}, by where they are from", ["cache"])
CALLS = Counter("upstream_calls", "Calls of the external API", ["outcome"])
POOL = Gauge("database_pool_connections", "Connections that are used", ["pool"], multiprocess_mode="livesum")
POOL_SIZE = Gauge("database_pool_size", "Connections that there may be", ["pool"], multiprocess_mode="livesum")
UNSENT = Counter("telemetry_unsent", "Spans, and reports for Sentry, that did not reach who was to get them", ["what"])
RELEASE = Gauge("service_release", "The release in service, by its label", ["release"], multiprocess_mode="livesum")

Labels = tuple[str, ...]


class Durations:
    """How long requests took, by their labels: for each bucket a number of them, and the sum of their seconds."""

    def __init__(self) -> None:
        self._rows: dict[Labels, list[float]] = {}

    def add(self, labels: Labels, seconds: float, number: int = 1) -> None:
        row = self._rows.get(labels)
        if row is None:
            row = self._rows[labels] = [0.0] * (len(SECONDS) + 2)
        row[bisect_left(SECONDS, seconds)] += number
        row[-1] += seconds * number

    def write(self) -> None:
        """Add to the histogram what was added here since the last time."""
        rows, self._rows = self._rows, {}
        for labels, row in rows.items():
            child = DURATION.labels(*labels)
            for bucket, number in enumerate(row[:-1]):
                if number:
                    child._buckets[bucket].inc(number)  # `observe` takes one at a time, twenty times as long
            child._sum.inc(row[-1])


class Growth:
    """A counter of all workers that grows with counts of this one's."""

    def __init__(self, counter: Counter, counts: Mapping[str, int]) -> None:
        self._counter = counter
        self._counts = counts
        self._written: dict[str, int] = {}

    def write(self) -> None:
        for label, count in self._counts.items():
            self._counter.labels(label).inc(count - self._written.get(label, 0))
            self._written[label] = count


class InFlight:
    """Counts the requests that the application works on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.number = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        self.number += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.number -= 1


class Timed:
    """Counts how long requests take, by method, route and status."""

    def __init__(self, app: ASGIApp, durations: Durations) -> None:
        self.app = app
        self._durations = durations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        seen = Seen(send)
        began = time.perf_counter()
        try:
            await self.app(scope, receive, seen.send)
        finally:
            # labels of few values, whatever clients ask for
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._durations.add((method, route(scope), str(seen.status)), time.perf_counter() - began)


class Metrics:
    """Writes what a worker counts; without `in_full`, requests in flight alone."""

    def __init__(self, in_full: bool, release: str) -> None:
        self._in_full = in_full
        self._release = release
        self._durations = Durations()

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """The application, counted."""
        self._in_flight = InFlight(Timed(app, self._durations) if self._in_full else app)
        return self._in_flight

    @asynccontextmanager
    async def reported(
        self,
        hot: Callable[[], int],
        answers: Mapping[str, int],
        calls: Mapping[str, int],
        pools: Callable[[], Iterable[tuple[str, int, int]]],
    ) -> AsyncIterator[None]:
        """While it lasts, what is counted is written for the other workers.

        :param hot: answers from memory so far. :param answers: others so far, by where they are from.
        :param calls: of the external API so far, by outcome. :param pools: their names, and how many
            connections are used, of how many.
        """
        forget_the_dead()
        tasks = [asyncio.create_task(self._write_in_flight())]
        if self._in_full:
            growing = [Growth(ANSWERS, answers), Growth(CALLS, calls)]
            tasks += [asyncio.create_task(self._write(hot, growing, pools)), asyncio.create_task(watch_loop())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def _write_in_flight(self) -> None:
        while True:
            IN_FLIGHT.set(self._in_flight.number)
            await asyncio.sleep(PERIOD)

    async def _write(
        self,
        hot: Callable[[], int],
        growing: Iterable[Growth],
        pools: Callable[[], Iterable[tuple[str, int, int]]],
    ) -> None:
        RELEASE.labels(self._release).set(1)
        given = 0
        while True:
            now, before = hot(), given
            if now > before:
                self._durations.add(HOT, 0.0, now - before)
                ANSWERS.labels("memory").inc(now - before)
                given = now
            self._durations.write()
            for growth in growing:
                growth.write()
            for name, used, size in pools():
                POOL.labels(name).set(used)
                POOL_SIZE.labels(name).set(size)
            await asyncio.sleep(PERIOD)


async def watch_loop() -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_PERIOD
        await asyncio.sleep(LAG_PERIOD)
        LAG.observe(max(0.0, loop.time() - due))


def forget_the_dead() -> None:
    """Remove what workers that are gone have left of what is true now; what they counted stays."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for path in Path(directory).glob("gauge_live*_*.db") if directory else ():
        pid = path.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            with suppress(FileNotFoundError):  # another worker was faster
                mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]  # the library has no types here


async def metrics(request: Request) -> Response:
    """For the fleet's own hosts: a load balancer names the client it asks for, and gets nothing."""
    if "x-forwarded-for" in request.headers:
        raise HTTPException(404)
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        forget_the_dead()
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # nor here
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
