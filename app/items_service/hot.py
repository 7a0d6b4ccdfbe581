"""Answers kept in a worker's memory for at most a second, given before anything else of the service runs.

Data: path -> the bytes of the answer. Flow: `keep` when it came from the cache; `forget` when the item is written, here
or, by the news of it, on another host.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

LIFE = 1.0  # seconds
MOST = 10_000  # answers; beyond, all are dropped, as most are old
WROTE = "wrote"  # the cookie of a client that has just written: it reads from the primary
_WROTE = WROTE.encode() + b"="


class HotAnswers:
    def __init__(self, headers: Mapping[str, str]) -> None:
        """Make it empty; `headers` go with every answer."""
        given = {"X-Cache": "hit", "Content-Type": "application/json", **headers}
        self._headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
        self._answers: dict[str, tuple[float, dict[str, object], dict[str, object]]] = {}

    def keep(self, item_id: int, body: bytes) -> None:
        if len(self._answers) >= MOST:
            self._answers.clear()
        headers = [*self._headers, (b"content-length", str(len(body)).encode())]
        self._answers[f"/items/{item_id}"] = (
            time.monotonic() + LIFE,
            {"type": "http.response.start", "status": 200, "headers": headers},
            {"type": "http.response.body", "body": body},
        )

    def forget(self, item_id: int) -> None:
        """The item is in its own answer, and in that of the one before it."""
        self._answers.pop(f"/items/{item_id}", None)
        self._answers.pop(f"/items/{item_id - 1}", None)

    def clear(self) -> None:
        self._answers.clear()

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """The application with these answers before it."""

        async def answer_or_ask(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                found = self._answers.get(scope["path"])
                if found is not None and found[0] > time.monotonic() and _is_plain(scope):
                    await send(found[1])
                    await send(found[2])
                    return
            await app(scope, receive, send)

        return answer_or_ask


def _is_plain(scope: Scope) -> bool:
    """Whether a request gets what everybody gets."""
    if scope["method"] != "GET" or scope["query_string"] or scope["state"]["health"].draining:
        return False
    return not any(name == b"cookie" and _WROTE in value for name, value in scope["headers"])
