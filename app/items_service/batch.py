"""Questions put together: one call for all that was asked for while the call before it was under way.

Data: for each key one future. Flow: `ask` of any number of requests -> one call with all their keys -> each its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Batch(Generic[Key, Value]):
    def __init__(self, fetch: Callable[[list[Key]], Awaitable[Mapping[Key, Value]]]) -> None:
        """`fetch` answers for many keys at once; what it raises, all of them get."""
        self._fetch = fetch
        self._wanted: dict[Key, asyncio.Future[Value | None]] = {}
        self._fetching: asyncio.Task[None] | None = None

    def ask(self, key: Key) -> asyncio.Future[Value | None]:
        """The answer for one key, None where there is none; the call begins after this, never before it."""
        future = self._wanted.get(key)
        if future is None:
            future = self._wanted[key] = asyncio.get_running_loop().create_future()
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch_wanted())
        return asyncio.shield(future)  # one that leaves does not end it for the others

    async def _fetch_wanted(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            try:
                found = await self._fetch(list(wanted))
            except Exception as error:
                for future in wanted.values():
                    future.set_exception(error)
                    future.exception()  # seen, where nobody waits any more
            else:
                for key, future in wanted.items():
                    future.set_result(found.get(key))
        self._fetching = None
