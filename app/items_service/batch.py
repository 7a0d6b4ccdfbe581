"""Questions put together: one call for all that was asked for in a pause, or while the call before was under way.

Data: for whoever asks, keys and a future. Flow: `ask` of any number of requests -> one call with all their keys -> its
result to each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Batch(Generic[Key, Result]):
    def __init__(self, fetch: Callable[[list[Key]], Awaitable[Result]], pause: float = 0) -> None:
        """`fetch` answers for many keys at once; what it raises, all of them get. `pause`: seconds before each call."""
        self._fetch = fetch
        self._pause = pause
        self._waiting: list[tuple[tuple[Key, ...], asyncio.Future[Result]]] = []
        self._fetching: asyncio.Task[None] | None = None

    def ask(self, *keys: Key) -> asyncio.Future[Result]:
        """The result of a call with these keys among others; the call begins after this, never before it."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((keys, future))
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch_wanted())
        return future

    async def _fetch_wanted(self) -> None:
        while self._waiting:
            if self._pause:
                await asyncio.sleep(self._pause)
            waiting, self._waiting = self._waiting, []
            wanted = dict.fromkeys(key for keys, _future in waiting for key in keys)
            try:
                result = await self._fetch(list(wanted))
            except Exception as error:
                for _keys, future in waiting:
                    if not future.done():
                        future.set_exception(error)
                        future.exception()  # seen, where nobody waits any more
            else:
                for _keys, future in waiting:
                    if not future.done():
                        future.set_result(result)
        self._fetching = None
