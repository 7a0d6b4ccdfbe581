"""Long polls: requests that wait for the next write of an item, on whichever host that takes place.

Data: for each item the requests of this worker that wait; the item as written, bytes of JSON. Flow: a write -> the news
in the cache -> each worker of each host -> all who wait for that item, and the hot answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import orjson

from items_service.breaker import COOL_DOWN
from items_service.cache import Cache

logger = logging.getLogger(__name__)


class Changes:
    def __init__(self, cache: Cache, on_write: Callable[[int], None], on_loss: Callable[[], None]) -> None:
        """`on_write` hears the id of each item written; `on_loss`, that some may have been missed."""
        self._cache = cache
        self._on_write = on_write
        self._on_loss = on_loss
        self._waiting: dict[int, set[asyncio.Future[bytes | None]]] = {}

    async def __aenter__(self) -> Changes:
        self._task = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def release(self) -> None:
        """Let nobody wait any longer."""
        for waiting in self._waiting.values():
            for future in waiting:
                _resolve(future, None)

    async def next(self, item_id: int, timeout: float) -> bytes | None:
        """The item as it is next written; None if it is not within `timeout` seconds."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes | None] = loop.create_future()
        waiting = self._waiting.setdefault(item_id, set())
        waiting.add(future)
        timer = loop.call_later(timeout, _resolve, future, None)
        try:
            return await future
        finally:
            timer.cancel()
            waiting.discard(future)
            if not waiting and self._waiting.get(item_id) is waiting:
                del self._waiting[item_id]

    async def _listen(self) -> None:
        while True:
            try:
                async for written in self._cache.news():
                    self._tell(written)
            except Exception as error:  # whatever it is, the news is heard again as soon as it can be
                logger.warning("changes on other hosts are not heard: %r", error)
                self._on_loss()
                await asyncio.sleep(COOL_DOWN)

    def _tell(self, written: bytes) -> None:
        item_id = orjson.loads(written)["id"]
        self._on_write(item_id)
        for future in self._waiting.pop(item_id, ()):
            _resolve(future, written)


def _resolve(future: asyncio.Future[bytes | None], value: bytes | None) -> None:
    if not future.done():
        future.set_result(value)
