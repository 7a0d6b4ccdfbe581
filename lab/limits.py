# SPDX-License-Identifier: GPL-3.0-or-later
"""Rate limits as Linode has them: fixed windows for each token and kind of request."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lab.settings import Limit


@dataclass
class Window:
    """What is left of one window."""

    limit: int
    left: int
    ends: float

    def headers(self, now: float) -> dict[str, str]:
        """Return the headers that every reply carries; Retry-After is no sign of a refusal."""
        wait = max(1, math.ceil(self.ends - now))
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(0, self.left)),
            "X-RateLimit-Reset": str(int(time.time()) + wait),
            "Retry-After": str(wait),
        }


class RateLimiter:
    """Counts requests; a kind with no limit is never refused."""

    def __init__(self, limits: Mapping[str, Limit], clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._windows: dict[tuple[str, str], Window] = {}

    def take(self, token: str, kind: str) -> tuple[bool, dict[str, str]]:
        """Count one request; return whether it is allowed, and the reply's headers."""
        limit = self._limits.get(kind)
        if limit is None:
            return True, {}
        now = self._clock()
        window = self._windows.get((token, kind))
        if window is None or window.ends <= now:
            window = self._windows[token, kind] = Window(limit.requests, limit.requests, now + limit.seconds)
        window.left -= 1
        return window.left >= 0, window.headers(now)
