"""Whether a server that fails is called at all."""

from __future__ import annotations

import logging
import time

COOL_DOWN = 1.0  # seconds
logger = logging.getLogger(__name__)


class Breaker:
    """Closed while calls succeed. After some failures in a row open: one call in COOL_DOWN seconds tries, no other."""

    def __init__(self, name: str, failures: int = 1) -> None:
        """`name` is for the log; `failures` is how many in a row open it."""
        self._name = name
        self._most = failures
        self._failures = 0
        self._retry_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether no call is made now, not even one that tries."""
        return self._failures >= self._most and time.monotonic() < self._retry_at

    def lets_through(self) -> bool:
        if self.is_open:
            return False
        if self._failures >= self._most:
            self._retry_at = time.monotonic() + COOL_DOWN
        return True

    def note(self, failure: Exception | None) -> None:
        if failure is None:
            if self._failures >= self._most:
                logger.warning("%s answers again", self._name)
            self._failures = 0
            return
        self._failures += 1
        if self._failures == 1:
            logger.warning("%s: %r", self._name, failure)
        if self._failures == self._most:
            logger.warning("%s is tried once in %s s", self._name, COOL_DOWN)
        if self._failures >= self._most:
            self._retry_at = time.monotonic() + COOL_DOWN
