"""Memcached: one server of several that know nothing of each other.

It has no subscriptions. The news is a log in it: a number that grows with each entry, and the last entries, which every
worker reads every PERIOD.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

import emcache
from emcache import Client, MemcachedHostAddress, MemcachedUnixSocketPath

PERIOD = 0.2  # seconds
KEPT = 10  # seconds an entry is kept
MOST = 1000  # entries between two looks; with more, some may be gone
LATE = 1.0  # seconds an entry may come after its number


class MemcachedServer:
    def __init__(self, address: str, connections: int, timeout: float) -> None:
        """`address`: HOST:PORT, or the path of a socket. `timeout`: seconds for each command."""
        self.name = address
        self._connections = connections
        self._timeout = timeout
        self._client: Client | None = None

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        async with self._connected() as client:
            found = await client.get_many([key.encode() for key in keys])
        return [found[key.encode()].value if key.encode() in found else None for key in keys]

    async def fill(self, key: str, value: bytes, seconds: int) -> None:
        async with self._connected() as client:
            there = await client.gets(key.encode())
            with suppress(emcache.StorageCommandError):  # somebody was faster, or it is gone
                if there is None:
                    await client.add(key.encode(), value, exptime=seconds)
                elif there.value and there.cas is not None:
                    await client.cas(key.encode(), value, there.cas, exptime=seconds)

    async def written(self, keys: Iterable[str], seconds: int, news: tuple[str, bytes] | None) -> None:
        async with self._connected() as client:
            await asyncio.gather(*(client.set(key.encode(), b"", exptime=seconds) for key in keys))
            if news:
                of, entry = news
                try:
                    number = await client.increment(of.encode(), 1)
                except emcache.NotFoundCommandError:
                    await self._number(client, of)
                    number = await client.increment(of.encode(), 1)
                await client.set(f"{of}:{number}".encode(), entry, exptime=KEPT)

    async def news(self, of: str) -> AsyncIterator[bytes]:
        async with self._connected() as client:
            told = await self._number(client, of)
        since = time.monotonic()
        while True:
            await asyncio.sleep(PERIOD)
            async with self._connected() as client:
                last = await self._number(client, of)
                if not 0 <= last - told <= MOST:
                    raise ConnectionError(f"the news went from {told} to {last}")
                entries = [f"{of}:{number}".encode() for number in range(told + 1, last + 1)]
                found = await client.get_many(entries) if entries else {}
            now = time.monotonic()
            for entry in entries:
                if entry not in found:
                    if now - since > LATE:
                        raise ConnectionError(f"the news {told + 1} is not there")
                    break
                yield found[entry].value
                told += 1
                since = now
            else:
                since = now

    async def check(self) -> None:
        async with self._connected() as client:
            await client.get(b"check")

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _number(self, client: Client, of: str) -> int:
        """The number of the last entry. The first is the time: after a restart it is none that was there before."""
        item = await client.get(of.encode())
        if item is None:
            with suppress(emcache.NotStoredStorageCommandError):
                await client.add(of.encode(), str(time.time_ns() // 1_000_000).encode())
            item = await client.get(of.encode())
        if item is None:
            raise ConnectionError("the number of the news is gone as soon as it is there")
        return int(item.value)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        """A client; after a failure the next one gets another, as this one would wait ever longer to connect again."""
        if self._client is None:
            self._client = await self._connect()
        client = self._client
        try:
            yield client
        except BaseException:
            if client is self._client:
                self._client = None
                await client.close()
            raise

    async def _connect(self) -> Client:
        host, _, port = self.name.rpartition(":")
        address = MemcachedHostAddress(host, int(port)) if host else MemcachedUnixSocketPath(self.name)
        return await emcache.create_client(
            [address],
            timeout=self._timeout,
            connection_timeout=self._timeout,
            max_connections=self._connections + 2,  # and two that check and listen
            min_connections=0,
            purge_unused_connections_after=None,
        )
