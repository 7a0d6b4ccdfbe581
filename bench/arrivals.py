# SPDX-License-Identifier: GPL-3.0-or-later
"""GET of the first so many items at random moments, as of many clients on their own, each timed from when it was due.

Flow: a timer -> the requests that are due, whatever became of those before, each over the next connection that is free
-> their answers -> a line of JSON. Without a rate, a request is due whenever a connection is free: the most that this
generator gets. Usage: python3 arrivals.py http://198.51.100.7 --rate 2000. Needs nothing but Python 3.13.
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
from itertools import chain
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
        self.free = deque(self.connections)  # the next is the one that has been free for longest, so none is closed

    def run(self) -> dict[str, float]:
        self.now = time.monotonic()
        self.counted_from = self.now + WARM_UP
        end = self.counted_from + self.options.seconds
        requests = self.requests(end)
        due, request = next(requests)
        while (due < end or self.busy) and self.now < end + PATIENCE:
            while self.free and due <= self.now:
                self.send(self.free.popleft(), due, request)
                due, request = next(requests)
            wake = due if self.free and due < end else end + PATIENCE
            os.timerfd_settime(self.timer, flags=os.TFD_TIMER_ABSTIME, initial=wake)
            for descriptor, _events in self.poller.poll():
                if descriptor != self.timer:
                    self.receive(descriptor)
            self.now = time.monotonic()
        unsent = sum(1 for due, _request in chain([(due, request)], requests) if due < end)
        self.failed += len(self.busy) + unsent
        ordered = sorted(self.latencies)
        percentiles = {f"p{share}_ms": round(1000 * ordered[len(ordered) * share // 100], 2) for share in (50, 95, 99)}
        microseconds = round(1e6 * self.options.seconds)
        return {"requests": len(ordered), "microseconds": microseconds, "failed": self.failed, **percentiles}

    def requests(self, end: float) -> Iterator[tuple[float, bytes]]:
        """Yield when each is due, and what to send."""
        due, number = self.now, 0
        while due < end:
            path = f"/items/{number % self.options.items + 1}{self.options.query}"
            yield due, f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode()
            number += 1
            due = due + random.expovariate(self.options.rate) if self.options.rate else self.now
        yield float("inf"), b""

    def send(self, descriptor: int, due: float, request: bytes) -> None:
        self.busy[descriptor] = (due, b"")
        self.connections[descriptor].send(request)

    def receive(self, descriptor: int) -> None:
        due, answer = self.busy.get(descriptor, (0, b""))
        received = self.connections[descriptor].recv(65536)
        answer += received
        head = HEAD.match(answer)
        if not received or descriptor not in self.busy:
            raise SystemExit(f"{self.host} closed a connection, having sent {answer[:200]!r}")
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
    parser.add_argument("--rate", type=float, default=0, help="requests a second; as many as are answered without")
    parser.add_argument("--connections", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--query", default="")
    print(json.dumps(Arrivals(parser.parse_args()).run()))
