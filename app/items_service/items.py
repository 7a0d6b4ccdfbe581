"""Answers of `GET /items/{id}`, put together once however many ask.

Data: for each item one answer, bytes of JSON. Flow: a worker's memory -> Redis -> the database and the external API.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import orjson

from items_service.cache import JUST_WRITTEN, Cache, Cached
from items_service.database import Item, Role, Store, Write
from items_service.hot import HotAnswers
from items_service.upstream import Details, Upstream

Asked = Callable[[int], Coroutine[Any, Any, Details]]


class NoItem(Exception):
    """There is no item of this id."""


class Answer(NamedTuple):
    body: bytes
    cache: str  # hit, miss or bypass
    database: Role | None = None  # which kind of server truly answered
    ok: bool = True  # False: some details are an error, and the answer is not kept


class Items:
    def __init__(self, database: Store, cache: Cache, upstream: Upstream, hot: HotAnswers) -> None:
        self._database = database
        self._cache = cache
        self._upstream = upstream
        self._hot = hot
        self._misses: dict[int, asyncio.Task[Answer]] = {}
        self.answers: Counter[str] = Counter()  # by where they are from

    async def shared(self, item_id: int) -> Answer:
        """The answer that everybody gets, from the cache where it has it; raises NoItem."""
        cached = await self._cache.get(item_id)
        if cached is None:
            return await asyncio.shield(self._miss(item_id))  # one that leaves does not end it for the others
        if cached is JUST_WRITTEN:
            return await self._compose(item_id, "primary", "bypass", details=self._upstream.shared_details)
        self._hot.keep(item_id, cached.body)
        self._renew(item_id, cached)
        return Answer(cached.body, "hit")

    def refresh(self, item_id: int) -> None:
        """Read a hot answer anew from the cache; one that is not there, or just written, is hot no longer."""
        self._cache.get_soon(item_id).add_done_callback(lambda read: self._refreshed(item_id, read))

    async def fresh(self, item_id: int, source: Role, after: Write | None = None) -> Answer:
        """The answer past the cache, from that kind of database, not from before the write `after`; raises NoItem."""
        return await self._compose(item_id, source, "bypass", after)

    async def written(self, item: Item, is_new: bool) -> None:
        """Forget the answers that show the item, and tell those who wait for it, on every host."""
        self._hot.forget(item["id"])
        before = item["id"] - self._database.step  # whose related item it is
        await self._cache.written(item, (before,) if is_new else (item["id"], before))

    def _refreshed(self, item_id: int, read: asyncio.Future[dict[int, Cached]]) -> None:
        cached = None if read.cancelled() else read.result().get(item_id)
        if cached is not None and cached is not JUST_WRITTEN:
            self._hot.renew(item_id, cached.body)
            self._renew(item_id, cached)

    def _renew(self, item_id: int, cached: Cached) -> None:
        """Put an old answer together anew, for whoever asks next."""
        if cached.is_old:
            self._miss(item_id)

    def _miss(self, item_id: int) -> asyncio.Task[Answer]:
        """One task for all that miss the same answer while it is put together."""
        task = self._misses.get(item_id)
        if task is None:
            task = self._misses[item_id] = asyncio.create_task(self._fill(item_id))
            task.add_done_callback(lambda done: self._missed(item_id, done))
        return task

    def _missed(self, item_id: int, done: asyncio.Task[Answer]) -> None:
        del self._misses[item_id]
        _seen(done)

    async def _fill(self, item_id: int) -> Answer:
        answer = await self._compose(item_id, "replica", "miss")
        if answer.ok:
            await self._cache.fill(item_id, answer.body)
        return answer

    async def _compose(
        self, item_id: int, source: Role, cache: str, after: Write | None = None, details: Asked | None = None
    ) -> Answer:
        related_id = item_id + self._database.step
        ids = (item_id, related_id)
        asked = [asyncio.create_task((details or self._upstream.details)(one)) for one in ids]
        try:
            items, role, *_ = await self._database.read(source, *ids, after=after)
            if item_id not in items:
                raise NoItem
            main, related = [await one for one in asked]
        finally:
            for one in asked:
                one.cancel()
        body = orjson.dumps(
            {
                "main_item": items[item_id] | {"details": main.content},
                "related_item": items[related_id] | {"details": related.content} if related_id in items else None,
            }
        )
        return Answer(body, cache, role, main.ok and related.ok)


def _seen(done: asyncio.Future[Any]) -> None:
    """Take note of an error for which nobody may wait any more, or asyncio writes it into the log."""
    if not done.cancelled():
        done.exception()
