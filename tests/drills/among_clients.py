# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of this directory among the lab's clients: started beside a change or a fault; they end with their input."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

NAMESPACE = "c50k-clients"  # where the lab's clients are
LIMIT = 900.0  # seconds after which a program ends by itself


async def until_input_ends(work: Awaitable[None], end: Callable[[], None]) -> None:
    """Inside: do the work, and call ``end``, which makes it come to its end, when the input ends."""
    loop = asyncio.get_running_loop()
    loop.call_later(LIMIT, end)

    def read() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(end)

    threading.Thread(target=read, daemon=True).start()
    await work


class AmongClients:
    """Outside: the program, for the length of a ``with`` block; then ``printed`` is the JSON value that it printed."""

    def __init__(self, program: str, *options: str) -> None:
        file = Path(__file__).with_name(program)
        self._command = ["ip", "netns", "exec", NAMESPACE, sys.executable, str(file), *options]
        self.printed: Any = None

    def __enter__(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        time.sleep(2)  # on its way
        assert self._process.poll() is None, f"{' '.join(self._command)} did not start"
        return self

    def __exit__(self, *_: object) -> None:
        output, _errors = self._process.communicate(timeout=60)
        self.printed = json.loads(output)
