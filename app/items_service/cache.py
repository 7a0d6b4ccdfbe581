"""Redis: whole answers by item id. A cache that is lost or slow is a miss, never an error."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import struct
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from items_service.batch import Batch
from items_service.settings import Settings

TIMEOUT = 0.25  # seconds to connect, to be answered, and to wait for a free connection
COOL_DOWN = 1.0  # seconds without a try after a failure
SOON = 0.05  # seconds
KEY = "cache:item:v2:{}"  # a new shape of the value takes a new version
CHANNEL = "cache:written"  # of items as they are written, in JSON
# The share of CACHE_TTL after which an answer is put together anew while it is given still; random, so that answers
# made together do not grow old together.
FRESH = (0.6, 0.9)
STAMP = struct.Struct("!d")  # before the answer: until when it is fresh, in seconds of Unix time

SETTLE = 10  # seconds, at least, in which an item just written is read from the primary and not cached
FILL = "if redis.call('get', KEYS[1]) ~= '' then return redis.call('set', KEYS[1], ARGV[1], 'EX', ARGV[2]) end"

logger = logging.getLogger(__name__)


class Cached(NamedTuple):
    body: bytes
    is_old: bool  # it is to be put together anew, before it is gone


JUST_WRITTEN = Cached(b"", is_old=False)  # an empty value


def connect(settings: Settings, connections: int) -> Redis:
    """A client over at most so many connections, each with short limits."""
    pool = BlockingConnectionPool.from_url(
        settings.cache_url,
        password=settings.cache_password,
        max_connections=connections,
        timeout=TIMEOUT,
        socket_timeout=TIMEOUT,
        socket_connect_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 1),
    )
    return Redis.from_pool(pool)


class Cache:
    def __init__(self, settings: Settings) -> None:
        self._redis = connect(settings, settings.cache_max_connections)
        self._ttl = settings.cache_ttl
        # longer than a replica is behind and a request lasts, so that no reader of the old row fills the cache later
        self._settle = max(SETTLE, math.ceil(settings.database_max_lag + settings.upstream_timeout) + 4)
        self._retry_at = 0.0
        self._answers = Batch(self._read)
        self._answers_soon = Batch(self._read, SOON)

    async def __aenter__(self) -> Cache:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    async def get(self, item_id: int) -> Cached | None:
        """The answer, JUST_WRITTEN, or None if there is none or the cache is lost."""
        return (await self._answers.ask(item_id)).get(item_id)

    def get_soon(self, item_id: int) -> asyncio.Future[dict[int, Cached]]:
        """The same for whoever can wait: by item id, with what others ask for within SOON."""
        return self._answers_soon.ask(item_id)

    async def fill(self, item_id: int, answer: bytes) -> None:
        """Keep an answer, in the place of an old one, unless the item has been written since it was read."""
        fresh_until = time.time() + self._ttl * random.uniform(*FRESH)
        value = STAMP.pack(fresh_until) + answer
        await self._try(self._redis.eval, FILL, 1, KEY.format(item_id), value, self._ttl)

    async def written(self, item: dict[str, Any], shown_by: Iterable[int]) -> None:
        """Forget the answers that show the item, and tell every worker of every host of it.

        With the cache lost, the answers live on until their time is over (CACHE_TTL).
        """
        self._retry_at = 0.0
        commands = self._redis.pipeline(transaction=False)
        for item_id in shown_by:
            commands.set(KEY.format(item_id), b"", ex=self._settle)
        commands.publish(CHANNEL, orjson.dumps(item))
        await self._try(commands.execute)

    async def check(self) -> None:
        """Raise an error of Redis or the system unless the cache answers."""
        await self._redis.ping()

    async def _read(self, ids: list[int]) -> dict[int, Cached]:
        values = await self._try(self._redis.mget, [KEY.format(item_id) for item_id in ids])
        now = time.time()
        found = zip(ids, values or [None] * len(ids), strict=True)
        return {item_id: _cached(value, now) for item_id, value in found if value is not None}

    async def _try(self, command: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        """The command's result, or None if the cache is lost."""
        if time.monotonic() < self._retry_at:
            return None
        try:
            return await command(*arguments, **options)
        except Exception as error:  # whatever it is, an answer without the cache is better than none
            logger.warning("no cache for %s s: %r", COOL_DOWN, error)
            self._retry_at = time.monotonic() + COOL_DOWN
            return None


def _cached(value: bytes, now: float) -> Cached:
    if not value:
        return JUST_WRITTEN
    (fresh_until,) = STAMP.unpack_from(value)
    return Cached(value[STAMP.size :], is_old=now > fresh_until)
