"""Whole answers by item id, in Redis or Memcached. A cache that is lost or slow is a miss, never an error.

Data: for each server a breaker, its free slots, and the keys asked for meanwhile. Flow: an item's key -> its server, by
rendezvous hashing -> the value, within TIMEOUT, or None. While a server fails, one call a second tries it, and nobody
else waits.
"""

from __future__ import annotations

import asyncio
import math
import random
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, TypeVar

import orjson

from items_service.batch import Batch
from items_service.breaker import Breaker
from items_service.memcached_server import MemcachedServer
from items_service.redis_server import RedisServer
from items_service.settings import Settings
from items_service.tracing import span

TIMEOUT = 0.2  # seconds in all: for a free slot, to connect, and to be answered
SOON = 0.05  # seconds
KEY = "cache:item:v2:{}"  # a new shape of the value takes a new version
NEWS = "cache:written"  # of items as they are written, in JSON
# The share of CACHE_TTL after which an answer is put together anew while it is given still; random, so that answers
# made together do not grow old together.
FRESH = (0.6, 0.9)
STAMP = struct.Struct("!d")  # before the answer: until when it is fresh, in seconds of Unix time
WRITTEN = b""  # in the place of an answer whose item has just been written

SETTLE = 10  # seconds, at least, in which an item just written is read from the primary and not cached

Result = TypeVar("Result")


class Server(Protocol):
    """What an engine does with one server; each raises whatever it likes, and may take for ever."""

    name: str

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]: ...

    async def fill(self, key: str, value: bytes, seconds: int) -> None:
        """Set the value, unless an empty one is there."""

    async def written(self, keys: Iterable[str], seconds: int, news: tuple[str, bytes] | None) -> None:
        """Set the keys to the empty value, and tell the news (of what, and what) to all who hear."""

    def news(self, of: str) -> AsyncIterator[bytes]:
        """What is told from now on, until it raises because some may have been missed."""

    async def check(self) -> None:
        """Raise an error unless the server answers."""

    async def aclose(self) -> None: ...


class Cached(NamedTuple):
    body: bytes
    is_old: bool  # it is to be put together anew, before it is gone


JUST_WRITTEN = Cached(WRITTEN, is_old=False)


class Guarded:
    """A server, called by so many at once, for TIMEOUT at most, and seldom while it fails."""

    def __init__(self, server: Server, connections: int) -> None:
        self.server = server
        self.breaker = Breaker(f"the cache {server.name}")
        self.answers = Batch(self._read)
        self.answers_soon = Batch(self._read, SOON)
        self._free = asyncio.Semaphore(connections)

    async def call(self, command: Callable[..., Awaitable[Result]], *arguments: Any) -> Result | None:
        """The command's result, or None if the cache is lost."""
        return await self.call_anyway(command, *arguments) if self.breaker.lets_through() else None

    async def call_anyway(self, command: Callable[..., Awaitable[Result]], *arguments: Any) -> Result | None:
        """The same, also while the server fails."""
        try:
            with span(f"cache {command.__name__}", {"server.address": self.server.name}):
                async with asyncio.timeout(TIMEOUT), self._free:
                    result = await command(*arguments)
        except Exception as error:  # whatever it is, an answer without the cache is better than none
            self.breaker.note(error)
            return None
        self.breaker.note(None)
        return result

    async def _read(self, ids: list[int]) -> dict[int, Cached]:
        values = await self.call(self.server.get_many, [KEY.format(item_id) for item_id in ids])
        now = time.time()
        found = zip(ids, values or [None] * len(ids), strict=True)
        return {item_id: _cached(value, now) for item_id, value in found if value is not None}


class Cache:
    def __init__(self, settings: Settings) -> None:
        self._ttl = settings.cache_ttl
        # longer than a replica is behind and a request lasts, so that no reader of the old row fills the cache later
        self._settle = max(SETTLE, math.ceil(settings.database_max_lag + settings.upstream_timeout) + 4)
        self._servers = [Guarded(server, settings.cache_max_connections) for server in servers(settings)]

    async def __aenter__(self) -> Cache:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(one.server.aclose() for one in self._servers))

    async def get(self, item_id: int) -> Cached | None:
        """The answer, JUST_WRITTEN, or None if there is none or the cache is lost."""
        server = self._server(KEY.format(item_id))
        if server.breaker.is_open:  # not even with one that tries is waited
            return None
        return (await server.answers.ask(item_id)).get(item_id)

    def get_soon(self, item_id: int) -> asyncio.Future[dict[int, Cached]]:
        """The same for whoever can wait: by item id, with what others ask for within SOON."""
        return self._server(KEY.format(item_id)).answers_soon.ask(item_id)

    async def fill(self, item_id: int, answer: bytes) -> None:
        """Keep an answer, in the place of an old one, unless the item has been written since it was read."""
        fresh_until = time.time() + self._ttl * random.uniform(*FRESH)
        key, value = KEY.format(item_id), STAMP.pack(fresh_until) + answer
        server = self._server(key)
        await server.call(server.server.fill, key, value, self._ttl)

    async def written(self, item: dict[str, Any], shown_by: Iterable[int]) -> None:
        """Forget the answers that show the item, and tell every worker of every host of it.

        With the cache lost, the answers live on until their time is over (CACHE_TTL).
        """
        teller = self._server(NEWS)
        keys: dict[Guarded, list[str]] = {teller: []}
        for key in map(KEY.format, shown_by):
            keys.setdefault(self._server(key), []).append(key)
        news = (NEWS, orjson.dumps(item))
        # the others first: who hears the news may read at once
        for server in sorted(keys, key=lambda one: one is teller):
            told = news if server is teller else None
            await server.call_anyway(server.server.written, keys[server], self._settle, told)

    def news(self) -> AsyncIterator[bytes]:
        """Items as they are written from now on, in JSON, until it raises because some may have been missed."""
        return self._server(NEWS).server.news(NEWS)

    async def check(self) -> None:
        """Raise an error unless the whole cache answers."""
        await asyncio.gather(*(one.server.check() for one in self._servers))

    def _server(self, key: str) -> Guarded:
        """The key's server, the same for every worker of every host."""
        if len(self._servers) == 1:
            return self._servers[0]
        return max(self._servers, key=lambda one: blake2b(f"{one.server.name} {key}".encode(), digest_size=8).digest())


def servers(settings: Settings) -> Sequence[Server]:
    """Those of CACHE_URL; Redis is one, whichever of its hosts is primary."""
    scheme, _, rest = settings.cache_url.partition("://")
    if scheme == "memcached":
        return [MemcachedServer(address, settings.cache_max_connections, TIMEOUT) for address in rest.split(",")]
    return [RedisServer(settings, TIMEOUT)]


def _cached(value: bytes, now: float) -> Cached:
    if not value:
        return JUST_WRITTEN
    (fresh_until,) = STAMP.unpack_from(value)
    return Cached(value[STAMP.size :], is_old=now > fresh_until)
