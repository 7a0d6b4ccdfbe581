"""The external API, over one connection pool per worker."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import timedelta
from typing import Any, NamedTuple

import orjson
from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import TransportError

from items_service.breaker import Breaker
from items_service.settings import Settings
from items_service.tracing import headers, span

POSTS = 100  # how many the external API has
LARGEST = 64 * 1024  # bytes of an answer
CONNECT_TIMEOUT = timedelta(seconds=3)  # a lost SYN is sent again after one second
FAILURES = 20  # in a row, until it is called once a second
logger = logging.getLogger(__name__)


class Details(NamedTuple):
    content: Any
    ok: bool  # False: content is {"error": reason}, not to be kept


UNAVAILABLE = Details({"error": "External service unavailable"}, ok=False)


class Upstream:
    def __init__(self, settings: Settings) -> None:
        timeout = timedelta(seconds=settings.upstream_timeout)
        self._url = settings.upstream_url
        self._breaker = Breaker("the external API", FAILURES)
        self._under_way: dict[int, asyncio.Task[Details]] = {}
        self.calls: Counter[str] = Counter()  # by outcome
        # httpx costs nine times as much for each call, over this very transport too, and its own pool slows down with
        # the number of calls under way (bench/upstream_client.py)
        self._client = (
            ClientBuilder()
            .max_connections(settings.upstream_max_connections)
            .pool_timeout(timeout)
            .pool_idle_timeout(timedelta(seconds=30))
            .connect_timeout(min(timeout, CONNECT_TIMEOUT))
            .timeout(timeout)
            .follow_redirects(False)
            .no_proxy()
            .build()
        )

    async def __aenter__(self) -> Upstream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def details(self, item_id: int) -> Details:
        """What the external API tells about an item; never raises."""
        if not self._breaker.lets_through():
            self.calls["not_made"] += 1
            return UNAVAILABLE
        details = await self._call(item_id)
        self.calls["ok" if details.ok else "error"] += 1
        return details

    async def shared_details(self, item_id: int) -> Details:
        """The same, by one call for all who ask while it is under way."""
        call = self._under_way.get(item_id)
        if call is None:
            call = self._under_way[item_id] = asyncio.create_task(self.details(item_id))
            call.add_done_callback(lambda _: self._under_way.pop(item_id))
        return await asyncio.shield(call)  # one that leaves does not end it for the others

    async def _call(self, item_id: int) -> Details:
        try:
            request = self._client.get(f"{self._url}/posts/{(item_id - 1) % POSTS + 1}")
            with span("GET the external API", {"server.address": self._url}) as asking:
                if trace := headers(asking):
                    request = request.headers(trace)
                async with request.build_streamed() as response:
                    status = response.status
                    body = await response.body_reader.read(LARGEST + 1) or b""
            self._breaker.note(None if status < 500 else ValueError(f"status {status}"))
            if not 200 <= status < 300:
                return Details({"error": f"External service returned status {status}"}, ok=False)
            if len(body) > LARGEST:
                raise ValueError(f"longer than {LARGEST} bytes")
            return Details(orjson.loads(memoryview(body)), ok=True)
        except TransportError as error:
            self._breaker.note(error)
            return UNAVAILABLE
        except Exception as error:
            logger.warning("the external API's answer cannot be used: %r", error)
            return Details({"error": "An unexpected error occurred"}, ok=False)
