"""Redis: one server, or whichever the Sentinels say is primary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import itemgetter
from typing import Any, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from items_service.settings import Settings

ASK = 0.1  # seconds for a Sentinel to answer
QUIET = 2.0  # seconds without a message after which a subscription has to show that it lives
FILL = "if redis.call('get', KEYS[1]) ~= '' then return redis.call('set', KEYS[1], ARGV[1], 'EX', ARGV[2]) end"


class RedisServer:
    def __init__(self, settings: Settings, timeout: float) -> None:
        """`timeout`: seconds to connect, and to be answered."""
        self.name = settings.cache_url
        self._settings = settings
        self._timeout = timeout
        self._primary: Any = None  # its address, as the Sentinels last said
        self._client = self._connect()
        self._closing: set[asyncio.Task[None]] = set()

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._connected() as client:
            return cast(list[bytes | None], await client.mget(keys))

    async def fill(self, key: str, value: bytes, seconds: int) -> None:
        with self._connected() as client:
            await client.eval(FILL, 1, key, value, seconds)

    async def written(self, keys: Iterable[str], seconds: int, news: tuple[str, bytes] | None) -> None:
        with self._connected() as client:
            commands = client.pipeline(transaction=False)
            for key in keys:
                commands.set(key, b"", ex=seconds)
            if news:
                commands.publish(*news)
            await commands.execute()

    async def news(self, of: str) -> AsyncIterator[bytes]:
        client = self._connect(retries=0)  # a subscription that is made again has missed some
        try:
            async with client.pubsub() as subscription:
                await subscription.subscribe(of)
                primary = getattr(client.connection_pool, "master_address", None)
                self._found(primary)
                silent = False
                while True:
                    message = await subscription.get_message(timeout=QUIET)
                    if self._primary != primary:
                        raise ConnectionError(f"the primary is {self._primary} now")
                    if message is None:
                        if silent:
                            raise TimeoutError(f"no answer to a ping within {QUIET} s")
                        await subscription.ping()
                    elif message["type"] == "message":
                        yield message["data"]
                    silent = message is None
        finally:
            await _close(client)

    async def check(self) -> None:
        pool = self._client.connection_pool
        if hasattr(pool, "get_master_address"):
            self._found(await pool.get_master_address())
        await self._client.ping()

    async def aclose(self) -> None:
        await asyncio.gather(_close(self._client), *self._closing)

    @contextmanager
    def _connected(self) -> Iterator[Redis]:
        client = self._client
        try:
            yield client
        except BaseException:
            if client is self._client:
                self._renew()
            raise

    def _found(self, primary: Any) -> None:
        """Leave a primary that is none any more: one that was cut off does not know it."""
        if self._primary not in (None, primary):
            self._renew()
        self._primary = primary

    def _renew(self) -> None:
        """Use other connections from now on: all of these may be dead, or to a server that is primary no more."""
        closing = asyncio.create_task(_close(self._client))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._client = self._connect()

    def _connect(self, retries: int = 1) -> Redis:
        """A client whose connections have short limits."""
        limits = {"socket_timeout": self._timeout, "socket_connect_timeout": self._timeout}
        options: dict[str, Any] = {
            **limits,
            "password": self._settings.cache_password,
            "max_connections": self._settings.cache_max_connections + 1,  # and one that checks
            "retry": Retry(NoBackoff(), retries),
        }
        scheme, _, rest = self._settings.cache_url.partition("://")
        if scheme != "redis+sentinel":
            return Redis.from_pool(ConnectionPool.from_url(self._settings.cache_url, **options))
        user, _, rest = rest.rpartition("@")
        hosts, _, name = rest.partition("/")
        login = {"username": user or None, "password": self._settings.cache_password}
        asked = {"socket_timeout": ASK, "socket_connect_timeout": ASK, "retry": Retry(NoBackoff(), 0), **login}
        sentinels: Any = Sentinels  # the library has no types here
        addresses = [tuple(host.rsplit(":", 1)) for host in hosts.split(",")]
        client: Redis = sentinels(addresses, sentinel_kwargs=asked).master_for(name, **options | login)
        return client


class Sentinels(Sentinel):
    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """The primary's address by the latest failover that most of them know; all are asked at once."""
        known: list[dict[str, Any]] = []
        for answer in asyncio.as_completed([self._ask(sentinel, service_name) for sentinel in self.sentinels]):
            known += await answer
            if 2 * len(known) > len(self.sentinels):
                latest = max(known, key=itemgetter("config-epoch"))
                return latest["ip"], latest["port"]
        raise MasterNotFoundError(f"{len(known)} of {len(self.sentinels)} Sentinels know a primary {service_name}")

    async def _ask(self, sentinel: Redis, service_name: str) -> list[dict[str, Any]]:
        """What it knows of the primary, if it knows one that is not down."""
        try:
            state: dict[str, Any] = cast(Any, await sentinel.sentinel_masters())[service_name]
        except (RedisError, OSError, TimeoutError, KeyError):
            return []
        return [state] if self.check_master_state(state, service_name) else []


async def _close(client: Redis) -> None:
    sentinels = getattr(client.connection_pool, "sentinel_manager", None)
    for one in filter(None, (client, sentinels)):
        with suppress(Exception):  # the connections of a dead server do not close
            await one.aclose()
