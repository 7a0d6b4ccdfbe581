# SPDX-License-Identifier: GPL-3.0-or-later
"""One request: token, rate limit, body, then a handler; one reply: JSON, or errors as Linode words them."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lab.models import Json, Record
from lab.store import R

if TYPE_CHECKING:
    from lab.api.app import Lab


class Part(Protocol):
    """What has an id, and belongs to a record."""

    id: int


P = TypeVar("P", bound=Part)
MAX_BODY = 1 << 20
LOCAL_NAMES = {"127.0.0.1", "localhost"}

logger = logging.getLogger("lab")


class ApiError(Exception):
    """A refusal; ``errors`` are (field or None, reason)."""

    def __init__(self, status: int, *errors: tuple[str | None, str]) -> None:
        super().__init__(status, errors)
        self.status = status
        self.errors = errors

    def response(self, headers: dict[str, str] | None = None) -> Response:
        errors = [{"reason": reason, **({"field": name} if name else {})} for name, reason in self.errors]
        return JSONResponse({"errors": errors}, self.status, headers)


def not_found() -> ApiError:
    return ApiError(404, (None, "Not found"))


class Problems:
    """What is wrong with a request, all of it, before anything is done."""

    def __init__(self) -> None:
        self._found: list[tuple[str | None, str]] = []

    def add(self, name: str, reason: str) -> None:
        self._found.append((name, reason))

    def require(self, given: Json, *names: str) -> None:
        """Note which of the names have no value."""
        for name in names:
            if given.get(name) is None:
                self.add(name, f"{name} is required")

    def choose(self, name: str, value: Any, allowed: Collection[Any]) -> bool:
        """Return whether a value is one of those that are allowed; note it if not."""
        if value in allowed:
            return True
        self.add(name, f"Must be one of {', '.join(map(str, allowed))}")
        return False

    def include(self, others: Problems, name: str) -> None:
        """Add what was found in the part of the request that is called ``name``."""
        self._found += [(f"{name}.{field}" if field else name, reason) for field, reason in others._found]

    def check(self) -> None:
        """Raise ApiError 400 if there is anything."""
        if self._found:
            raise ApiError(400, *self._found)


@dataclass
class Call:
    """A request that may do what it asks for."""

    lab: Lab
    request: Request
    body: Json = field(default_factory=dict)

    def record(self, kind: type[R], name: str = "id") -> R:
        """Return the record that the path names. Raises ApiError 404."""
        found = self.lab.store.get(kind, self.request.path_params[name])
        if found is None:
            raise not_found()
        return found

    def child(self, kind: type[R], name: str, parent: str, owner: Record) -> R:
        """Return the record that the path names, and whose field ``parent`` names its owner. Raises ApiError 404."""
        found = self.record(kind, name)
        if getattr(found, parent) != owner.id:
            raise not_found()
        return found

    def entry(self, entries: Mapping[str, Json]) -> Json:
        """Return what a table, such as the regions, has by the path's id. Raises ApiError 404."""
        found = entries.get(self.request.path_params["id"])
        if found is None:
            raise not_found()
        return found

    def part(self, parts: Sequence[P], name: str) -> P:
        """Return the part of a record, such as a disk of a Linode, that the path names. Raises ApiError 404."""
        for part in parts:
            if part.id == self.request.path_params[name]:
                return part
        raise not_found()

    def without_hosts(self, what: str) -> None:
        """Refuse what the lab's hosts cannot do, where there are hosts. Raises ApiError 400."""
        if self.lab.settings.hosts:
            raise ApiError(400, (None, f"{what} not available in this region"))


Handler = Callable[[Call], Awaitable[Any]]


def route(method: str, path: str, handler: Handler, limit: str = "other", anyone: bool = False) -> Route:
    """Return a route that counts against ``limit`` and, unless ``anyone`` may, needs the token."""

    async def respond(request: Request) -> Response:
        lab: Lab = request.app.state.lab
        known = hmac.compare_digest(request.headers.get("authorization", "").encode(), f"Bearer {lab.token}".encode())
        if not known and not anyone:
            return ApiError(401, (None, "Invalid Token")).response()
        allowed, headers = lab.limiter.take(lab.token if known else "", limit)
        if not allowed:
            return ApiError(429, (None, "Too many requests")).response(headers)
        try:
            body = await _json(request) if method in ("POST", "PUT") else {}
            return JSONResponse(await handler(Call(lab, request, body)), headers=headers)
        except ApiError as error:
            return error.response(headers)

    async def logged(request: Request) -> Response:
        response = await respond(request)
        logger.info("%s %s %s", method, request.url.path, response.status_code)
        return response

    return Route(path, logged, methods=[method])


async def _json(request: Request) -> Json:
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise ApiError(413, (None, "Request body too large"))
    if not data.strip():
        return {}
    try:
        body = json.loads(data)
    except ValueError:
        raise ApiError(400, (None, "Invalid JSON")) from None
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise ApiError(400, (None, "Request body must be a JSON object"))
    return body


async def http_error(request: Request, error: Exception) -> Response:
    """Word Starlette's own refusals (unknown path, wrong method) as the API does."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    reason = {404: "Not found", 405: "Method Not Allowed"}.get(status, "Internal Server Error")
    return ApiError(status, (None, reason)).response()


class LocalOnly:
    """Refuse any Host but this machine's own names: a page in a browser must not get here by a DNS name of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            if host.rpartition(":")[0] not in LOCAL_NAMES and host not in LOCAL_NAMES:
                reason = f"Host {host!r} is refused: the lab answers to 127.0.0.1 and localhost only"
                await ApiError(403, (None, reason)).response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


class LastSlash:
    """Let a path that ends with a slash mean the same without, as Linode does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != "/":
            scope = {**scope, "path": scope["path"].rstrip("/")}
        await self._app(scope, receive, send)


def fields(body: Json, problems: Problems, types: Mapping[str, type]) -> Json:
    """Return the named fields that the body has and that are not null; note those of a wrong type."""
    words = {str: "a string", int: "an integer", bool: "a boolean", list: "an array", dict: "an object"}
    found = {}
    for name, kind in types.items():
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            found[name] = value
        else:
            problems.add(name, f"Must be {words[kind]}")
    return found


def overlay(base: Json, change: Json) -> Json:
    """Return ``base`` with the values of ``change``; objects are merged, anything else takes the other's place."""
    merged = dict(base)
    for name, value in change.items():
        before = merged.get(name)
        merged[name] = overlay(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged
