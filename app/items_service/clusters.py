"""Several clusters of PostgreSQL: each statement to the one that has the shard of its key, or on demand to all of them.

Data: the key of a statement; the map of the shards. Flow: key -> shard -> cluster; where that says that the shard is
away, all are asked what they have, and the statement goes once more.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from itertools import islice
from typing import TypeVar

from items_service.database import (
    Database,
    DatabaseUnavailable,
    Found,
    Item,
    Page,
    Role,
    ShardAway,
    Write,
    Written,
)
from items_service.settings import Settings
from items_service.shards import SHARDS, NoOwner, ShardMap, shard_of, shard_of_all

SCATTER_TIMEOUT = 1.0  # seconds for a question that goes to all; who has not answered then is left out
MAP_TIMEOUT = 1.0  # seconds for each to say what it has
MOVE_TIMEOUT = 4.0  # seconds to find a shard that is about to change hands
PAUSE = 0.02  # seconds between two looks for it

Result = TypeVar("Result")


class Clusters:
    step = SHARDS  # the next number of the same shard

    def __init__(self, settings: Settings) -> None:
        self._databases = {name: Database(settings, name) for name in settings.clusters}
        self._map = ShardMap()
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Clusters:
        self._stack = AsyncExitStack()
        for database in self._databases.values():
            await self._stack.enter_async_context(database)
        await self._look()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def checks(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Those of each cluster; what they say of their shards goes into the map."""
        checks: dict[str, Callable[[], Awaitable[object]]] = {}
        for name, database in self._databases.items():
            write, read = database.checks
            checks |= {write: partial(self._see, name), read: database.check_read}
        return checks

    def pools(self) -> Iterator[tuple[str, int, int]]:
        for database in self._databases.values():
            yield from database.pools()

    async def read(self, source: Role, *ids: int, after: Write | None = None) -> Found:
        """As Database.read; the ids are of one shard."""
        return await self._where(shard_of_all(ids), lambda database: database.read(source, *ids, after=after))

    async def insert(self, values: Item) -> Written:
        """Into the shard of its name."""
        shard = shard_of(values["name"])
        return await self._where(shard, lambda database: database.insert(values, shard))

    async def update(self, item_id: int, values: Item) -> Written | None:
        return await self._where(shard_of(item_id), lambda database: database.update(item_id, values))

    async def page(self, after: int, count: int) -> Page:
        """As Database.page, from all clusters, and which have not answered in time; DatabaseUnavailable if none has."""
        asked = [database.page(after, count, SCATTER_TIMEOUT) for database in self._databases.values()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        items: list[list[Item]] = []
        missing = []
        for name, answer in zip(self._databases, answers, strict=True):
            if isinstance(answer, Page):
                items.append(answer.items)
            elif isinstance(answer, DatabaseUnavailable):
                missing.append(name)
            else:
                raise answer
        if not items:
            raise DatabaseUnavailable(f"no cluster answers, of {', '.join(missing)}")
        # a replica that is behind may still show what has moved to another cluster
        found = {item["id"]: item for item in heapq.merge(*items, key=lambda item: int(item["id"]))}
        return Page(list(islice(found.values(), count)), missing)

    async def _where(self, shard: int, ask: Callable[[Database], Awaitable[Result]]) -> Result:
        """Ask the cluster that has the shard; wait for a short while where it is about to change hands."""
        end = time.monotonic() + MOVE_TIMEOUT
        while True:
            try:
                return await ask(self._databases[self._map.cluster_of(shard)])
            except (NoOwner, ShardAway) as error:
                known = isinstance(error, ShardAway) or self._map.seen(self._databases)
                if not known or time.monotonic() > end:
                    raise DatabaseUnavailable(str(error)) from error
            await self._look()
            await asyncio.sleep(PAUSE)

    async def _look(self) -> None:
        """Ask all for their shards, once for all who want to know."""
        if self._looking is None:
            self._looking = asyncio.create_task(self._ask_all())
        await asyncio.shield(self._looking)

    async def _ask_all(self) -> None:
        try:
            await asyncio.gather(*map(self._see, self._databases), return_exceptions=True)
        finally:
            self._looking = None

    async def _see(self, name: str) -> None:
        async with asyncio.timeout(MAP_TIMEOUT):
            self._map.see(name, await self._databases[name].check_write())
