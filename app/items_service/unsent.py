"""What did not reach those who watch, traces or errors: counted, and said once a minute at most."""

from __future__ import annotations

import logging
import threading
import time

from items_service.metrics import UNSENT

PERIOD = 60.0  # seconds between two lines in the log
logger = logging.getLogger(__name__)


class Unsent:
    """Any thread may count. The reason is for the log, and so must hold no secret."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._number = 0
        self._said = -PERIOD

    def count(self, number: int, reason: str) -> None:
        UNSENT.labels(self._what).inc(number)
        with self._lock:
            self._number += number
            now = time.monotonic()
            if now - self._said < PERIOD:
                return
            number, self._number, self._said = self._number, 0, now
        logger.warning("%d %s were not sent since this was said last: %s", number, self._what, reason)
