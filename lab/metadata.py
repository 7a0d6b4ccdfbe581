# SPDX-License-Identifier: GPL-3.0-or-later
"""Linode's metadata service: what a host is told about itself, user data above all, at http://169.254.169.254/v1.

Data: a Linode's record. Flow: host -> the router of its first link -> the socket of this service there -> the record
with the packet's source address on that router. Nothing that a request says tells whose data it gets: VPCs may have the
same addresses, so each router has a socket of its own. Linode answers over IPv6 as well; the lab's hosts have none.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import re
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lab import catalog
from lab.api.wire import ApiError, http_error, not_found
from lab.limits import RateLimiter
from lab.models import Instance, Json
from lab.network import PRIVATE
from lab.settings import Limit
from lab.store import Store

EXPIRY, TOKEN = "Metadata-Token-Expiry-Seconds", "Metadata-Token"
MAX_EXPIRY = 86_400  # seconds
LIMIT = "other"  # Linode names no limit of its own for a host

logger = logging.getLogger("lab")


def find_instance(store: Store, vpc_id: int | None, address: str) -> Instance | None:
    """Return the Linode that has an address in a VPC; without a VPC, a public one."""
    for instance in store.all(Instance):
        if vpc_id is None:
            own = instance.ipv4
        else:
            own = [address for item in instance.vpc_interfaces if item.vpc_id == vpc_id for address in item.addresses]
        if address in own:
            return instance
    return None


class Metadata:
    """The service on all routers; each is known by its VPC's id, that of the public addresses by None."""

    def __init__(self, store: Store, limits: Mapping[str, Limit]) -> None:
        self._store = store
        self._limiter = RateLimiter(limits)
        self._tokens = Tokens()
        self._servers: dict[int | None, tuple[uvicorn.Server, asyncio.Task[None]]] = {}

    @property
    def served(self) -> set[int | None]:
        """The routers that have it."""
        return set(self._servers)

    def serve(self, vpc_id: int | None, listener: socket.socket) -> None:
        """Answer the hosts of a router on its socket, from now on."""
        server = _Server(
            uvicorn.Config(
                self.app(vpc_id),
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,  # the source address alone says who asks
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._servers[vpc_id] = server, asyncio.create_task(server.serve([listener]))

    async def end(self, *vpc_ids: int | None) -> None:
        """Close the sockets of some routers."""
        ended = [self._servers.pop(vpc_id) for vpc_id in vpc_ids]
        for server, _ in ended:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in ended))

    def app(self, vpc_id: int | None) -> Starlette:
        """Return the service for the hosts of one router."""
        views = {"instance": _instance, "network": _network, "ssh-keys": _ssh_keys, "user-data": _user_data}
        return Starlette(
            routes=[
                self._route(vpc_id, "PUT", "/v1/token", self._new_token, guarded=False),
                *(self._route(vpc_id, "GET", f"/v1/{name}", view) for name, view in views.items()),
            ],
            exception_handlers={HTTPException: http_error, Exception: http_error},
        )

    def _route(
        self,
        vpc_id: int | None,
        method: str,
        path: str,
        view: Callable[[Request, Instance], Response],
        guarded: bool = True,
    ) -> Route:
        """Return a route to ``view`` for the Linodes of one router, each with a token of its own if ``guarded``."""

        async def respond(request: Request) -> Response:
            address = request.client.host if request.client else ""
            instance = find_instance(self._store, vpc_id, address)
            try:
                if instance is None:
                    raise not_found()
                if not self._limiter.take(str(instance.id), LIMIT)[0]:
                    raise ApiError(429, (None, "Too many requests"))
                if guarded and not self._tokens.allows(request.headers.get(TOKEN, ""), instance.id):
                    raise ApiError(401, (None, "Unauthorized"))
                response = view(request, instance)
            except ApiError as error:
                response = error.response()
            who = instance.label if instance else address
            logger.info("metadata for %s: %s %s %s", who, method, path, response.status_code)
            return response

        return Route(path, respond, methods=[method])

    def _new_token(self, request: Request, instance: Instance) -> Response:
        seconds = request.headers.get(EXPIRY, "")
        if not re.fullmatch("[0-9]{1,5}", seconds) or not 1 <= int(seconds) <= MAX_EXPIRY:
            raise ApiError(400, (EXPIRY, f"Must be 1 to {MAX_EXPIRY} seconds"))
        token = self._tokens.new(instance.id, int(seconds))
        return JSONResponse([token]) if _wants_json(request) else PlainTextResponse(token)


class Tokens:
    """Tokens of 64 hexadecimal digits: whose, until when, and a signature. So none has to be kept."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)  # a restart of the lab ends them all

    def new(self, instance_id: int, seconds: int) -> str:
        claim = struct.pack(">Qd", instance_id, self._clock() + seconds)
        return (claim + self._signature(claim)).hex()

    def allows(self, token: str, instance_id: int) -> bool:
        """Tell whether a token was made for a Linode and is not out of date."""
        if not re.fullmatch("[0-9a-f]{64}", token):
            return False
        claim, signature = bytes.fromhex(token[:32]), bytes.fromhex(token[32:])
        if not hmac.compare_digest(signature, self._signature(claim)):
            return False
        owner, until = struct.unpack(">Qd", claim)
        return bool(owner == instance_id and self._clock() < until)

    def _signature(self, claim: bytes) -> bytes:
        return hmac.digest(self._key, claim, "sha256")[:16]


class _Server(uvicorn.Server):
    """One of several in a process whose signals are another server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _instance(request: Request, instance: Instance) -> Response:
    size = catalog.TYPES[instance.type]
    return _document(
        request,
        {
            "id": instance.id,
            "host_uuid": instance.host_uuid,
            "label": instance.label,
            "region": instance.region,
            "type": instance.type,
            "tags": instance.tags,
            "specs": {name: size[name] for name in ("vcpus", "memory", "disk", "transfer", "gpus")},
            "backups": {"enabled": instance.backups_enabled, "status": None},
        },
    )


def _network(request: Request, instance: Instance) -> Response:
    """Addresses as prefixes. A public interface alone is not listed, as on Linode."""
    private = [address for address in instance.ipv4 if IPv4Address(address) in PRIVATE]
    listed = instance.interfaces if instance.vpc_interfaces else []
    return _document(
        request,
        {
            "interfaces": [{"label": None, "purpose": item.purpose, "ipam_address": None} for item in listed],
            "ipv4": {
                "public": [f"{address}/32" for address in instance.ipv4 if address not in private],
                "private": [f"{address}/{PRIVATE.prefixlen}" for address in private],
                "shared": [],
            },
            "ipv6": {"slaac": None, "link_local": None, "ranges": [], "shared_ranges": []},
        },
    )


def _ssh_keys(request: Request, instance: Instance) -> Response:
    return _document(request, {"users": {"root": instance.authorized_keys} if instance.authorized_keys else {}})


def _user_data(request: Request, instance: Instance) -> Response:
    """Base64, or nothing where there is none; never JSON."""
    return PlainTextResponse(instance.user_data)


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def _document(request: Request, document: Json) -> Response:
    return JSONResponse(document) if _wants_json(request) else PlainTextResponse(as_text(document))


def as_text(document: Json) -> str:
    """Return a document as ``key.key: value`` lines in the keys' order, one for each value of a list, none for null."""
    return "".join(f"{name}: {value}\n" for name, value in sorted(_flat("", document), key=lambda item: item[0]))


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else key, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(name, inner)
    elif value is not None:
        yield name, value if isinstance(value, str) else json.dumps(value)
