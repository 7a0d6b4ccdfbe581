"""What /readyz says: starting, ready, degraded or draining."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

PERIOD = 2.0  # seconds between two rounds of checks
TIMEOUT = 3.0  # seconds for one check
LOOK = 0.1  # seconds between two looks for the notice of a stop
logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[object]]


class Health:
    """Checks the shared dependencies in the background, and drains before a stop.

    Servers stop listening at SIGTERM, and a load balancer then learns of it from refused connections. So whoever stops
    the service first writes the file `draining` into $RUNTIME_DIRECTORY, with the seconds until the signal: for so long
    the worker serves on, /readyz says 503 and every answer closes its connection.
    """

    def __init__(self, checks: Mapping[str, Check], on_stop: Callable[[], None]) -> None:
        """`on_stop` is called when the drain is over, and ends what would wait longer."""
        self.started = False
        self.draining = False
        self.lost: list[str] = []
        self._checks = checks
        self._on_stop = on_stop
        self._notice = Path(os.environ.get("RUNTIME_DIRECTORY", "/nonexistent"), "draining")

    async def __aenter__(self) -> Health:
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._drain())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def report(self) -> tuple[int, dict[str, Any]]:
        """HTTP status and content."""
        if self.draining:
            return 503, {"status": "draining"}
        if not self.started:
            return 503, {"status": "starting"}
        return 200, {"status": "degraded", "lost": self.lost} if self.lost else {"status": "ok"}

    async def _watch(self) -> None:
        while True:
            results = await asyncio.gather(*map(self._answers, self._checks.values()))
            lost = [name for name, answers in zip(self._checks, results, strict=True) if not answers]
            if lost != self.lost:
                logger.warning("lost dependencies: %s", ", ".join(lost) or "none")
            self.lost, self.started = lost, True
            await asyncio.sleep(PERIOD)

    async def _answers(self, check: Check) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT):
                await check()
            return True
        except Exception:
            return False

    async def _drain(self) -> None:
        while not (seconds := self._announced()):
            await asyncio.sleep(LOOK)
        self.draining = True
        await asyncio.sleep(float(seconds))
        self._on_stop()

    def _announced(self) -> str:
        """The seconds until the stop, as they are written; empty while there is none."""
        try:
            return self._notice.read_text().strip()
        except FileNotFoundError:
            return ""
