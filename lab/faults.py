# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults on request: Linode's awkward moments, each for as many times as asked.

Data: a Fault, one line of what is to go wrong. Flow: ``python -m lab fault`` -> /lab/faults -> Faults, which the
lifecycle asks before each boot and FaultyApi before each request of /v4. Faults end with the API's process.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab.models import Json
from lab.tasks import TASKS

INSTANCES = re.compile(r"/linode/instances/\d+(/.*)?")
LISTING = re.compile(r"/linode/instances")
WRITES = ("POST", "PUT", "DELETE")
MAX_SECONDS = 240.0  # a step of the lifecycle may take 300


@dataclass
class Fault:
    """Something that goes wrong the next ``count`` times (0: until cleared), each time with a chance of ``share``."""

    id: int
    kind: str
    count: int = 1
    share: float = 1.0
    label: str = ""  # boots: of this Linode; appear and disappear: the Linode that does; empty for any
    seconds: float = 0.0  # slow, slow-boot: how much longer; timeout, rate-limit: Retry-After
    task: str = ""  # slow: of this kind; empty for any
    linodes: int = 0  # limit: how many the account may have
    method: str = ""  # requests: only these; empty for any
    path: str = ""  # requests: only those that begin so, after /v4


@dataclass(frozen=True)
class Kind:
    """A kind of fault: its text, which requests it is for, and the reply in the place of the API's."""

    help: str
    takes: frozenset[str] = frozenset({"method", "path", "share"})
    methods: tuple[str, ...] = ()
    paths: re.Pattern[str] = re.compile(r"/.*")
    reply: tuple[int, str] | None = None
    requests: bool = True  # else the lifecycle or a handler asks for it by name


KINDS = {
    "slow": Kind(
        "each task of a Linode (boot, reboot, resize, …) takes SECONDS longer",
        frozenset({"label", "seconds", "task"}),
        requests=False,
    ),
    "slow-boot": Kind("a boot takes SECONDS longer", frozenset({"label", "seconds"}), requests=False),
    "failed-boot": Kind("a boot fails", frozenset({"label"}), requests=False),
    "limit": Kind("the account may have LINODES Linodes, no more", frozenset({"linodes"}), requests=False),
    "busy": Kind("400 Linode busy.", methods=WRITES, paths=INSTANCES, reply=(400, "Linode busy.")),
    "timeout": Kind(
        "408 Please try again", frozenset({"method", "path", "share", "seconds"}), reply=(408, "Please try again")
    ),
    "rate-limit": Kind(
        "429 Too many requests", frozenset({"method", "path", "share", "seconds"}), reply=(429, "Too many requests")
    ),
    "down": Kind("503, nothing is done", reply=(503, "Service Unavailable")),
    "refuse": Kind("the connection is closed, nothing is done"),
    "drop": Kind("the work is done, the connection is closed without a reply", methods=WRITES),
    "appear": Kind("a Linode appears behind page 1 of a listing", frozenset({"label"}), ("GET",), LISTING),
    "disappear": Kind("Linode LABEL is deleted behind page 1 of a listing", frozenset({"label"}), ("GET",), LISTING),
}


class Faults:
    """The faults that are still to come, oldest first."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self.active: list[Fault] = []

    def add(self, wish: Any) -> Fault:
        """Add what ``wish`` describes: a fault's fields by name. Raises ValueError."""
        fault = Fault(next(self._ids), **_checked(wish))
        self.active.append(fault)
        return fault

    def clear(self) -> None:
        self.active.clear()

    async def slow(self, task: str, label: str) -> None:
        """Hold a task of a Linode up as asked."""
        for fault in list(self.active):
            if fault.kind == "slow" and fault.label in ("", label) and fault.task in ("", task):
                self._use(fault)
                await asyncio.sleep(fault.seconds)

    async def boot(self, label: str) -> str:
        """Hold a boot up as asked; return why it fails, empty if it does not."""
        reasons = []
        for fault in list(self.active):
            if fault.kind in ("slow-boot", "failed-boot") and fault.label in ("", label):
                self._use(fault)
                await asyncio.sleep(fault.seconds)
                reasons += ["a failed boot was asked for"] if fault.kind == "failed-boot" else []
        return ", ".join(reasons)

    def exhausted(self, linodes: int) -> bool:
        """Tell whether an account that has so many Linodes may have no other one."""
        for fault in list(self.active):
            if fault.kind == "limit" and linodes >= fault.linodes:
                self._use(fault)
                return True
        return False

    def request(self, method: str, path: str, query: str) -> Fault | None:
        """Return the fault of a request, the oldest that applies, and count it."""
        for fault in self.active:
            kind = KINDS[fault.kind]
            if not kind.requests or (kind.methods and method not in kind.methods) or not kind.paths.fullmatch(path):
                continue
            if fault.method not in ("", method) or not path.startswith(fault.path) or random.random() >= fault.share:
                continue
            if kind.paths is LISTING and re.search(r"(^|&)page=(?!1(&|$))", query):
                continue
            self._use(fault)
            return fault
        return None

    def _use(self, fault: Fault) -> None:
        if fault.count:
            fault.count -= 1
            if fault.count == 0:
                self.active.remove(fault)


def _checked(wish: Any) -> Json:
    kind = KINDS.get(wish.get("kind", "")) if isinstance(wish, dict) else None
    if kind is None:
        raise ValueError(f"A fault is one of {', '.join(KINDS)}")
    allowed = {"kind", "count", *kind.takes}
    for name, value in wish.items():
        if name not in allowed:
            raise ValueError(f"{wish['kind']} takes {', '.join(sorted(allowed - {'kind'}))}, not {name}")
        default = next(item.default for item in fields(Fault) if item.name == name)
        text = default is MISSING or isinstance(default, str)
        if isinstance(value, bool) or not isinstance(value, str if text else int | float):
            raise ValueError(f"{name} is {value!r}; it must be {'a text' if text else 'a number'}")
    count, share, seconds = wish.get("count", 1), wish.get("share", 1.0), wish.get("seconds", 0.0)
    if not isinstance(count, int) or count < 0:
        raise ValueError(f"count is {count!r}; it must be a whole number, 0 for until it is cleared")
    if not 0 < share <= 1:
        raise ValueError(f"share is {share!r}; it must be more than 0, and 1 at most")
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"seconds is {seconds!r}; it must be from 0 to {MAX_SECONDS:g}")
    if wish.get("task") and wish["task"] not in TASKS:
        raise ValueError(f"task is {wish['task']!r}; it must be one of {', '.join(TASKS)}")
    if wish["kind"] == "disappear" and not wish.get("label"):
        raise ValueError("disappear needs the label of the Linode that goes")
    return dict(wish)


class FaultyApi:
    """The API, with the faults that were asked for. ``change`` makes or deletes a Linode: (kind, label)."""

    def __init__(self, app: ASGIApp, faults: Faults, change: Callable[[str, str], Awaitable[None]]) -> None:
        self._app = app
        self._faults = faults
        self._change = change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = re.fullmatch(r"/v4(?:beta)?(/.*)", scope["path"]) if scope["type"] == "http" else None
        query = scope.get("query_string", b"").decode("latin-1")
        fault = self._faults.request(scope["method"], match[1], query) if match else None
        if fault is None:
            await self._app(scope, receive, send)
        elif reply := KINDS[fault.kind].reply:
            await _refuse(send, reply, fault)
        elif fault.kind == "refuse":
            await _hang_up(receive, send)
        elif fault.kind == "drop":
            await self._app(scope, receive, _nowhere)
            await _hang_up(receive, send)
        else:
            await self._app(scope, receive, send)
            await self._change(fault.kind, fault.label)


async def _refuse(send: Send, reply: tuple[int, str], fault: Fault) -> None:
    status, reason = reply
    body = json.dumps({"errors": [{"reason": reason}]}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if "seconds" in KINDS[fault.kind].takes:
        headers.append((b"retry-after", f"{fault.seconds:.0f}".encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _nowhere(message: Message) -> None:
    """Take a reply that nobody gets."""


async def _hang_up(receive: Receive, send: Send) -> None:
    send.__self__.transport.close()  # type: ignore[attr-defined]  # uvicorn's own: ASGI has no word for it
    while (await receive())["type"] != "http.disconnect":
        pass


def render(fault: Fault) -> Json:
    """Return a fault by what it takes."""
    row = asdict(fault)
    return {name: row[name] for name in row if name in ("id", "kind", "count", *KINDS[fault.kind].takes)}
