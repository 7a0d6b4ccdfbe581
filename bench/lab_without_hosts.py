# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab without hosts for a bench: a state and a port of its own, no rate limits unless asked for."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx

PROJECT = Path(__file__).parent.parent
START_TIMEOUT = 30.0


class Lab:
    """Runs for the length of a ``with`` block. ``limits`` is as C50K_LAB_LIMITS; empty for Linode's own."""

    def __init__(self, state: Path, limits: str = "none") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.state = state
        self.log = state / "bench.log"
        self.url = f"http://127.0.0.1:{port}/v4"
        settings = {"C50K_LAB_STATE": str(state), "C50K_LAB_PORT": str(port), "C50K_LAB_LIMITS": limits}
        self._environment = {**os.environ, **settings}

    def __enter__(self) -> Lab:
        command = [sys.executable, "-m", "lab", "start", "--no-hosts", "--foreground"]
        with (self.log).open("wb") as log:
            self._process = subprocess.Popen(command, cwd=PROJECT, env=self._environment, stderr=log, stdout=log)
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                httpx.get(f"{self.url}/regions")
                break
            except httpx.TransportError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"The lab did not start:\n{(self.state / 'bench.log').read_text()}") from None
                time.sleep(0.1)
        self.token = (self.state / "token").read_text().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=START_TIMEOUT)

    def calls(self) -> Counter[str]:
        """Return how often each kind of request was made, such as ``POST /linode/instances``; ids are ``{id}``."""
        lines = re.findall(r"(GET|POST|PUT|DELETE) /v4(\S*) \d{3}$", self.log.read_text(), re.MULTILINE)
        return Counter(f"{method} {re.sub(r'/[0-9]+', '/{id}', path)}" for method, path in lines)
