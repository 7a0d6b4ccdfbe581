"""Answers kept in a worker's memory for at most a second, given before anything else of the service runs.

Data: path -> the bytes of the answer. Flow: `keep` when it came from the cache; `renew` from there before its second is
over, while it is given still, so that nobody waits; `forget` when the item is written, here or, by the news of it, on
another host.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace

from starlette.types import ASGIApp, Receive, Scope, Send

LIFE = 1.0  # seconds
# The share of LIFE after which an answer is read anew: random, so that answers kept together are not read together, and
# so early that even a slow cache answers in time.
FRESH = (0.3, 0.7)
MOST = 10_000  # answers; beyond, all are dropped, as most are old
WROTE = "wrote"  # the cookie of a client that has just written: the transaction, than which it reads nothing older
_WROTE = WROTE.encode() + b"="
ITEM = SimpleNamespace(path="/items/{id}")  # the route that such an answer is of


@dataclass(slots=True)
class HotAnswer:
    item_id: int
    fresh_until: float
    given_until: float
    start: dict[str, object]
    body: dict[str, object]


class HotAnswers:
    def __init__(self, headers: Mapping[str, str], step: int) -> None:
        """Make it empty; `headers` go with every answer, and `step` is from an item's id to that of its related one."""
        self._step = step
        self.given = 0  # answers
        given = {"X-Cache": "hit", "Content-Type": "application/json", **headers}
        self._headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
        self._answers: dict[str, HotAnswer] = {}

    def keep(self, item_id: int, body: bytes) -> None:
        if len(self._answers) >= MOST:
            self._answers.clear()
        headers = [*self._headers, (b"content-length", str(len(body)).encode())]
        now = time.monotonic()
        self._answers[f"/items/{item_id}"] = HotAnswer(
            item_id,
            fresh_until=now + LIFE * random.uniform(*FRESH),
            given_until=now + LIFE,
            start={"type": "http.response.start", "status": 200, "headers": headers},
            body={"type": "http.response.body", "body": body},
        )

    def renew(self, item_id: int, body: bytes) -> None:
        """Keep it for longer, unless the item was written meanwhile."""
        if f"/items/{item_id}" in self._answers:
            self.keep(item_id, body)

    def forget(self, item_id: int) -> None:
        """The item is in its own answer, and in that of the one whose related item it is."""
        self._answers.pop(f"/items/{item_id}", None)
        self._answers.pop(f"/items/{item_id - self._step}", None)

    def clear(self) -> None:
        self._answers.clear()

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """The application with these answers before it."""

        async def answer_or_ask(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                found = self._answers.get(scope["path"])
                now = time.monotonic()
                if found is not None and now < found.given_until and _is_plain(scope):
                    scope["route"] = ITEM
                    await send(found.start)
                    await send(found.body)
                    self.given += 1
                    if now > found.fresh_until:
                        found.fresh_until = found.given_until  # once is enough
                        scope["state"]["items"].refresh(found.item_id)
                    return
            await app(scope, receive, send)

        return answer_or_ask


def _is_plain(scope: Scope) -> bool:
    """Whether a request gets what everybody gets."""
    if scope["method"] != "GET" or scope["query_string"] or scope["state"]["health"].draining:
        return False
    for name, value in scope["headers"]:  # any() of a generator takes three times as long
        if name == b"cookie" and _WROTE in value:
            return False
    return True
