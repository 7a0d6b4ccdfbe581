"""Redis: whole answers by item id. A cache that is lost or slow is a miss, never an error."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from items_service.settings import Settings

TIMEOUT = 0.25  # seconds to connect, to be answered, and to wait for a free connection
COOL_DOWN = 1.0  # seconds without a try after a failure
KEY = "cache:item:v1:{}"  # a new shape of the answer takes a new version

# Seconds in which an item just written is read from the primary and not cached. Longer than a request can last
# (UPSTREAM_TIMEOUT is at most 8), so that no reader of the old row can fill the cache after this.
SETTLE = 10
JUST_WRITTEN = b""

logger = logging.getLogger(__name__)


class Cache:
    def __init__(self, settings: Settings) -> None:
        pool = BlockingConnectionPool.from_url(
            settings.cache_url,
            password=settings.cache_password,
            max_connections=settings.cache_max_connections,
            timeout=TIMEOUT,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            retry=Retry(NoBackoff(), 1),
        )
        self._redis = Redis.from_pool(pool)
        self._ttl = settings.cache_ttl
        self._retry_at = 0.0
        self._wanted: dict[int, asyncio.Future[bytes | None]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Cache:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    async def get(self, item_id: int) -> bytes | None:
        """The answer, JUST_WRITTEN, or None if there is none or the cache is lost."""
        if item_id not in self._wanted:
            self._wanted[item_id] = asyncio.get_running_loop().create_future()
        future = self._wanted[item_id]
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_wanted())
        return await asyncio.shield(future)

    async def fill(self, item_id: int, answer: bytes) -> None:
        """Keep an answer, unless the item has been written since it was read."""
        await self._try(self._redis.set, KEY.format(item_id), answer, ex=self._ttl, nx=True)

    async def invalidate(self, *item_ids: int) -> None:
        """Forget the answers. With the cache lost, they live on until their time is over (CACHE_TTL)."""
        self._retry_at = 0.0
        for item_id in item_ids:
            await self._try(self._redis.set, KEY.format(item_id), JUST_WRITTEN, ex=SETTLE)

    async def check(self) -> None:
        """Raise an error of Redis or the system unless the cache answers."""
        await self._redis.ping()

    async def _read_wanted(self) -> None:
        """One MGET for all that was asked for while the one before it was under way."""
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            answers = await self._try(self._redis.mget, [KEY.format(item_id) for item_id in wanted])
            for future, answer in zip(wanted.values(), answers or [None] * len(wanted), strict=True):
                future.set_result(answer)
        self._reader = None

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
