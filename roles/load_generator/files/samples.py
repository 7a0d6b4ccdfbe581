# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process of a load test did in each second: one line of JSON a second on standard output.

A line is {"time": a second of Unix time, "source": the process, "active": users there are now, "routes": {route:
{"requests", "failed", "ms": {milliseconds: requests}}}, "failures": {reason: requests}}. All but "active" since the
line before; milliseconds have two significant digits, so that lines of all hosts and seconds can be added.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from typing import Any

# Reasons a line may tell apart; a scenario might put a number of its own into each.
REASONS = 20
LONGEST = 120  # characters of a reason


class Samples:
    def __init__(self) -> None:
        self._file = os.dup(1)
        os.dup2(2, 1)  # what a scenario prints is for the log
        self._begin()

    def _begin(self) -> None:
        self._routes: dict[str, dict[str, Any]] = {}
        self._failures: Counter[str] = Counter()

    def count(self, route: str, milliseconds: float, failure: str = "") -> None:
        """One request has ended; ``failure`` says why it failed."""
        found = self._routes.setdefault(route, {"requests": 0, "failed": 0, "ms": Counter()})
        found["requests"] += 1
        found["ms"][f"{milliseconds:.2g}"] += 1
        if failure:
            found["failed"] += 1
            reason = f"{route}: {failure}"[:LONGEST]
            known = reason in self._failures or len(self._failures) < REASONS
            self._failures[reason if known else "other reasons"] += 1

    def say(self, users: int, second: float = 0) -> None:
        """Write the line of what has happened since the last one, until now or that second."""
        line = {"time": int(second or time.time()), "source": os.getpid(), "active": users}
        text = json.dumps({**line, "routes": self._routes, "failures": self._failures})
        os.write(self._file, f"{text}\n".encode())  # whole, as all processes of a host write to one file
        self._begin()
