"""The external API, over one connection pool per worker."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, NamedTuple

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from items_service.settings import Settings

POSTS = 100  # how many the external API has
FAILURES = 20
COOL_DOWN = 1.0  # seconds
logger = logging.getLogger(__name__)


class Details(NamedTuple):
    content: Any
    ok: bool  # False: content is {"error": reason}, not to be kept


UNAVAILABLE = Details({"error": "External service unavailable"}, ok=False)


class Breaker:
    """Closed while calls succeed. After FAILURES in a row it is open: one call in COOL_DOWN seconds tries, no other."""

    def __init__(self) -> None:
        self._failures = 0
        self._retry_at = 0.0

    def lets_through(self) -> bool:
        if self._failures < FAILURES:
            return True
        now = time.monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + COOL_DOWN
        return True

    def note(self, succeeded: bool) -> None:
        if succeeded:
            self._failures = 0
            return
        self._failures += 1
        if self._failures == FAILURES:
            logger.warning("the external API failed %s times in a row: one call in %s s", FAILURES, COOL_DOWN)
            self._retry_at = time.monotonic() + COOL_DOWN


class Upstream:
    def __init__(self, settings: Settings) -> None:
        limits = httpx.Limits(max_connections=settings.upstream_max_connections, keepalive_expiry=30)
        self._timeout = settings.upstream_timeout
        self._url = settings.upstream_url
        self._breaker = Breaker()
        # httpx's own pool slows down with the number of requests in flight; aiohttp's does not
        self._client = httpx.AsyncClient(
            transport=AiohttpTransport(limits=limits), timeout=httpx.Timeout(self._timeout, connect=1.0)
        )

    async def __aenter__(self) -> Upstream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def details(self, item_id: int) -> Details:
        """What the external API tells about an item; never raises."""
        if not self._breaker.lets_through():
            return UNAVAILABLE
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.get(f"{self._url}/posts/{(item_id - 1) % POSTS + 1}")
            self._breaker.note(response.status_code < 500)
            response.raise_for_status()
            return Details(orjson.loads(response.content), ok=True)
        except httpx.HTTPStatusError as error:
            return Details({"error": f"External service returned status {error.response.status_code}"}, ok=False)
        except (httpx.RequestError, aiohttp.ClientError, TimeoutError, OSError):
            self._breaker.note(False)
            return UNAVAILABLE
        except Exception as error:
            logger.warning("the external API's answer cannot be used: %r", error)
            return Details({"error": "An unexpected error occurred"}, ok=False)
