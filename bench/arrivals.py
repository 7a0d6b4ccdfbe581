# SPDX-License-Identifier: GPL-3.0-or-later
"""GET of the first so many items at random moments, as of many clients on their own, each timed from when it was due.

Flow: a timer -> the requests that are due, whatever became of those before, each over the next connection that is free
-> their answers -> a line of JSON. Usage: python3 arrivals.py http://198.51.100.7 --rate 2000. Needs nothing but Python
3.13.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from urllib.parse import urlsplit

WARM_UP = 2.0  # seconds whose requests are not counted
PATIENCE = 10.0  # seconds for the last answers
HEAD = re.compile(rb"HTTP/1\.1 200 .*?\r\ncontent-length: (\d+)\r\n.*?\r\n\r\n", re.DOTALL | re.IGNORECASE)


class Arrivals:
    """One loop: what is due is sent, what is answered is timed. Times are seconds of the monotonic clock."""

    def __init__(self, options: argparse.Namespace) -> None:
        target = urlsplit(options.url)
        self.options = options
        self.host = target.hostname or ""
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.busy: dict[int, tuple[float, bytes]] = {}
        self.latencies: list[float] = []
        self.failed = 0
        self.poller = select.epoll()
        self.timer = os.timerfd_create(time.CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK)
        self.poller.register(self.timer, select.EPOLLIN)
        self.connections = {}
        for _number in range(options.connections):
            connection = socket.create_connection((self.host, target.port or 80), PATIENCE)
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.poller.register(connection.fileno(), select.EPOLLIN)
            self.connections[connection.fileno()] = connection
        self.free = list(self.connections)

    def run(self) -> dict[str, float]:
        now = time.monotonic()
        self.counted_from = now + WARM_UP
        end = self.counted_from + self.options.seconds
        requests = self.requests(now, end)
        due, request = next(requests)
        while now < end or (self.busy and now < end + PATIENCE):
            while due <= now:
                self.waiting.append((due, request))
                due, request = next(requests)
            while self.free and self.waiting:
                self.send(self.free.pop(), *self.waiting.popleft())
            os.timerfd_settime(self.timer, flags=os.TFD_TIMER_ABSTIME, initial=min(due, end + PATIENCE))
            for descriptor, _events in self.poller.poll():
                if descriptor != self.timer:
                    self.receive(descriptor)
            now = time.monotonic()
        self.failed += len(self.busy) + len(self.waiting)
        ordered = sorted(self.latencies)
        percentiles = {f"p{share}_ms": round(1000 * ordered[len(ordered) * share // 100], 2) for share in (50, 95, 99)}
        microseconds = round(1e6 * self.options.seconds)
        return {"requests": len(ordered), "microseconds": microseconds, "failed": self.failed, **percentiles}

    def requests(self, start: float, end: float) -> Iterator[tuple[float, bytes]]:
        """Yield when each is due, and what to send."""
        due, number = start, 0
        while due < end:
            path = f"/items/{number % self.options.items + 1}{self.options.query}"
            yield due, f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode()
            number += 1
            due += random.expovariate(self.options.rate)
        yield float("inf"), b""

    def send(self, descriptor: int, due: float, request: bytes) -> None:
        self.busy[descriptor] = (due, b"")
        self.connections[descriptor].send(request)

    def receive(self, descriptor: int) -> None:
        due, answer = self.busy[descriptor]
        answer += self.connections[descriptor].recv(65536)
        head = HEAD.match(answer)
        if head and len(answer) == head.end() + int(head[1]):
            del self.busy[descriptor]
            self.free.append(descriptor)
            if due >= self.counted_from:
                self.latencies.append(time.monotonic() - due)
        elif head or b"\r\n\r\n" not in answer:
            self.busy[descriptor] = (due, answer)
        else:
            raise SystemExit(f"not an answer that was wanted: {answer[:200]!r}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--query", default="")
    print(json.dumps(Arrivals(parser.parse_args()).run()))
