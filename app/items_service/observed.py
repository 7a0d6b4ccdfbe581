"""What those who watch a request see of it: its answer, its route, and what the load balancer calls it."""

from __future__ import annotations

from random import getrandbits

from starlette.types import Message, Scope, Send


class Seen:
    """Passes an answer on, and sees its status and the bytes of its body."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 499  # the client left before there was an answer
        self.size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)


def route(scope: Scope) -> str:
    """Of few values, whatever clients ask for; known once the request was routed."""
    return getattr(scope.get("route"), "path", "other")


def request_id(scope: Scope) -> str | None:
    """What the load balancer calls the request."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return str(value[:128], "latin-1")
    return None


def trace_id(scope: Scope) -> int:
    """What the load balancer calls the request, where that is 32 hexadecimal digits, else a random number."""
    name = request_id(scope) or ""
    try:
        return (len(name) == 32 and int.from_bytes(bytes.fromhex(name))) or getrandbits(128)
    except ValueError:
        return getrandbits(128)
