"""What /readyz says: starting, ready, degraded or draining."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

PERIOD = 2.0  # seconds between two rounds of checks
TIMEOUT = 3.0  # seconds for one check
logger = logging.getLogger(__name__)

Check = Callable[[], Awaitable[None]]


class Health:
    """Checks the shared dependencies in the background, and drains before a stop.

    Servers stop listening at SIGTERM, and a load balancer then learns of it from refused connections. So the signal
    is held back: for `drain_seconds` the worker serves on, /readyz says 503 and every answer closes its connection.
    A second SIGTERM stops at once.
    """

    def __init__(self, checks: Mapping[str, Check], drain_seconds: float, on_stop: Callable[[], None]) -> None:
        """`on_stop` is called when the drain is over, and ends what would wait longer."""
        self.started = False
        self.draining = False
        self.lost: list[str] = []
        self._checks = checks
        self._drain_seconds = drain_seconds
        self._on_stop = on_stop

    async def __aenter__(self) -> Health:
        self._task = asyncio.create_task(self._watch())
        self._holds_signal = self._drain_seconds > 0 and threading.current_thread() is threading.main_thread()
        if self._holds_signal:
            self._server_handler = signal.getsignal(signal.SIGTERM)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._drain)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._holds_signal:
            self._release_signal()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

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

    def _drain(self) -> None:
        self.draining = True
        self._release_signal()
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        self._on_stop()
        signal.raise_signal(signal.SIGTERM)

    def _release_signal(self) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, self._server_handler)
        self._holds_signal = False
