"""What the service says of itself to Prometheus, all workers of a host together.

Data: a file for each worker in $RUNTIME_DIRECTORY. Flow: a worker counts in memory and writes its number each half
second; whichever worker is asked adds up the files of those that live.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

if "RUNTIME_DIRECTORY" in os.environ:  # read by prometheus_client as it is imported
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", os.environ["RUNTIME_DIRECTORY"])

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Gauge, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

PERIOD = 0.5  # seconds
IN_FLIGHT = Gauge("http_requests_in_flight", "Requests that are worked on", multiprocess_mode="livesum")


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

    @asynccontextmanager
    async def reported(self) -> AsyncIterator[None]:
        """While it lasts, the number is written for the other workers."""
        forget_the_dead()
        task = asyncio.create_task(self._report())
        try:
            yield
        finally:
            task.cancel()

    async def _report(self) -> None:
        while True:
            IN_FLIGHT.set(self.number)
            await asyncio.sleep(PERIOD)


def forget_the_dead() -> None:
    """Remove what workers that are gone have left."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for path in Path(directory).glob("gauge_live*_*.db") if directory else ():
        pid = path.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
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
