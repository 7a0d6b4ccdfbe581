# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep N requests in flight at once, and count how each one ends.

Data: connections, each with one request of its own: opened, sent, answered, failed. Flow: a process for every so many
connections opens its share at a steady rate and waits; the parent adds them up, one line a second on standard error,
and prints a report as JSON at the end. With --samples it prints a line of JSON a second instead, as samples.py does.

A request has failed when its connection is refused, reset or closed early, when its status or body is not as wanted,
or when it is not answered in time. Nothing is sent twice. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import errno
import json
import multiprocessing
import os
import resource
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any
from urllib.parse import urlsplit

FILES_RESERVED = 100
STEP = 0.02  # seconds between two turns of opening connections
TELL = 0.2  # seconds between two words of a process to its parent
LARGEST = 1 << 20  # bytes of an answer


@dataclass
class Counts:
    """How far the requests of one process are; ``failures`` by reason."""

    opened: int = 0
    sent: int = 0
    answered: int = 0
    failed: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def in_flight(self) -> int:
        return self.sent - self.answered - self.failed

    def add(self, other: Counts) -> None:
        for name in ("opened", "sent", "answered", "failed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.failures.update(other.failures)


@dataclass
class Request:
    """One connection and what came of it so far."""

    socket: socket.socket
    number: int
    deadline: float
    is_sent: bool = False
    answer: bytes = b""


@dataclass(frozen=True)
class Wish:
    """What each process is to do."""

    targets: list[tuple[str, int]]
    path: str
    want: list[str]
    status: int
    ids: int
    rate: float  # connections a second, of this process
    timeout: float  # seconds

    def request(self, number: int, host: str) -> bytes:
        path = self.path.replace("{id}", str(self.id_of(number)))
        return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: hold\r\nAccept: */*\r\n\r\n".encode()

    def id_of(self, number: int) -> int:
        return number % self.ids + 1


class Holder:
    """The loop of one process: ``numbers`` are those of its requests."""

    def __init__(self, wish: Wish, numbers: range, parent: Connection) -> None:
        self.wish = wish
        self.numbers = iter(numbers)
        self.left = len(numbers)
        self.parent = parent
        self.counts = Counts()
        self.open: dict[int, Request] = {}
        self.poller = select.epoll()

    def run(self) -> None:
        started = time.monotonic()
        said = looked = started
        while self.left or self.open:
            now = time.monotonic()
            due = min(self.left, int((now - started) * self.wish.rate) + 1 - self.counts.opened)
            for _turn in range(due):
                self.start(next(self.numbers), now)
            for descriptor, events in self.poller.poll(STEP, 1024):
                self.go_on(self.open[descriptor], events)
            if now - said >= TELL:
                self.parent.send(self.counts)
                said = now
            if now - looked >= 1:
                looked = now
                for request in [request for request in self.open.values() if request.deadline < now]:
                    self.fail(request, f"no answer within {self.wish.timeout:g} s")
        self.parent.send(self.counts)
        self.parent.close()

    def start(self, number: int, now: float) -> None:
        self.left -= 1
        self.counts.opened += 1
        address = self.wish.targets[number % len(self.wish.targets)]
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # so that each pair of addresses has all ports of its own
        client.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24), 1)
        request = Request(client, number, now + self.wish.timeout)
        self.open[client.fileno()] = request
        error = client.connect_ex(address)
        if error not in (0, errno.EINPROGRESS):
            self.fail(request, f"connect: {os.strerror(error)}")
            return
        self.poller.register(client.fileno(), select.EPOLLOUT)

    def go_on(self, request: Request, events: int) -> None:
        try:
            if request.is_sent:
                self.read(request)
            elif error := request.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.fail(request, f"connect: {os.strerror(error)}")
            else:
                host = self.wish.targets[request.number % len(self.wish.targets)][0]
                request.socket.send(self.wish.request(request.number, host))
                request.is_sent = True
                self.counts.sent += 1
                self.poller.modify(request.socket.fileno(), select.EPOLLIN)
        except OSError as error:
            self.fail(request, f"{'read' if request.is_sent else 'send'}: {error.strerror}")

    def read(self, request: Request) -> None:
        part = request.socket.recv(65536)
        request.answer += part
        head, separator, body = request.answer.partition(b"\r\n\r\n")
        if separator and len(body) >= length_of(head):
            self.judge(request, head, body)
        elif not part:
            self.fail(request, "closed before its answer was whole" if request.answer else "closed without an answer")
        elif len(request.answer) > LARGEST:
            self.fail(request, "an answer without an end")

    def judge(self, request: Request, head: bytes, body: bytes) -> None:
        status = int(head[9:12])
        item = str(self.wish.id_of(request.number))
        if status != self.wish.status:
            self.fail(request, f"status {status}")
        elif any(part.replace("{id}", item).encode() not in body for part in self.wish.want):
            self.fail(request, f"a wrong body, such as {body[:100]!r}")
        else:
            self.counts.answered += 1
            self.close(request)

    def fail(self, request: Request, reason: str) -> None:
        if not request.is_sent:
            self.counts.sent += 1  # so that what failed is not counted as in flight
        self.counts.failed += 1
        self.counts.failures[reason] += 1
        self.close(request)

    def close(self, request: Request) -> None:
        del self.open[request.socket.fileno()]
        request.socket.close()


def length_of(head: bytes) -> int:
    """The length of the body by its header; 0 where there is none, as with 204."""
    for line in head.lower().split(b"\r\n")[1:]:
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def hold(wish: Wish, requests: int, processes: int, until: int, say: Callable[[float, Counts], None]) -> dict[str, Any]:
    """Run the processes; return the report: the counts, ``most_in_flight``, and ``seconds_held`` with ``until``.

    ``say`` gets the seconds and the counts so far, every second and at the end.
    """
    running: list[Connection] = []
    latest: dict[Connection, Counts] = {}
    shares = [range(first, requests, processes) for first in range(processes)]
    children = []
    for share in shares:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.Process(target=Holder(wish, share, sender).run, daemon=True)
        child.start()
        sender.close()
        children.append(child)
        running.append(receiver)
    started = said = time.monotonic()
    most, held_since, held = 0, 0.0, 0.0
    while running:
        for receiver in wait(running, timeout=1):
            assert isinstance(receiver, Connection)
            try:
                latest[receiver] = receiver.recv()
            except EOFError:
                running.remove(receiver)
        total = Counts()
        for counts in latest.values():
            total.add(counts)
        now = time.monotonic()
        most = max(most, total.in_flight)
        held_since = held_since or now if total.in_flight >= until else 0.0
        held = max(held, now - held_since if held_since else 0.0)
        if now - said >= 1:
            said = now
            say(now - started, total)
    say(now - started, total)
    for child in children:
        child.join()
    report = {**asdict(total), "failures": dict(total.failures.most_common(10))}
    return {**report, "most_in_flight": most, "seconds_held": round(held, 1), "seconds": round(now - started, 1)}


def show(seconds: float, counts: Counts) -> None:
    line = f"{seconds:4.0f} s  in flight {counts.in_flight:,}  sent {counts.sent:,}  failed {counts.failed:,}"
    print(line, file=sys.stderr, flush=True)


def sampler(route: str) -> Callable[[float, Counts], None]:
    """Return what writes a sample of all that has happened since the one before."""
    before = Counts()

    def sample(_seconds: float, counts: Counts) -> None:
        nonlocal before
        failed = counts.failed - before.failed
        ended = {"requests": counts.answered - before.answered + failed, "failed": failed, "ms": {}}
        line = {"time": int(time.time()), "source": os.getpid(), "active": counts.in_flight}
        print(json.dumps({**line, "routes": {route: ended}, "failures": counts.failures - before.failures}), flush=True)
        before = counts

    return sample


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("targets", nargs="+", help="http://ADDRESS[:PORT], each gets its share")
    parser.add_argument("--requests", type=int, required=True, help="how many to keep in flight")
    parser.add_argument("--path", default="/", help="{id} is the number of an item")
    parser.add_argument(
        "--want", action="append", default=[], help="what each body has to contain; {id} as in the path"
    )
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--ids", type=int, default=1000, help="items to spread the requests over")
    parser.add_argument("--rate", type=float, default=1000, help="connections a second, of all processes")
    parser.add_argument("--timeout", type=float, default=120, help="seconds that an answer may take")
    parser.add_argument("--samples", action="store_true", help="a line of JSON a second, in place of the report")
    options = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    processes = max(1, -(-options.requests // (files - FILES_RESERVED)))
    addresses = [urlsplit(target) for target in options.targets]
    wish = Wish(
        targets=[(str(address.hostname), address.port or 80) for address in addresses],
        path=options.path,
        want=options.want,
        status=options.status,
        ids=options.ids,
        rate=options.rate / processes,
        timeout=options.timeout,
    )
    say = sampler(f"GET {options.path}") if options.samples else show
    report = hold(wish, options.requests, processes, options.requests, say)
    if options.samples:
        return 0  # whoever adds the samples up judges them
    print(json.dumps(report), flush=True)
    return 0 if report["failed"] == 0 and report["answered"] == options.requests else 1


if __name__ == "__main__":
    sys.exit(main())
