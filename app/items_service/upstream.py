"""The external API, over one connection pool per worker."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from items_service.settings import Settings

POSTS = 100  # how many the external API has
logger = logging.getLogger(__name__)


class Details(NamedTuple):
    content: Any
    ok: bool  # False: content is {"error": reason}, not to be kept


class Upstream:
    def __init__(self, settings: Settings) -> None:
        limits = httpx.Limits(max_connections=settings.upstream_max_connections, keepalive_expiry=30)
        self._timeout = settings.upstream_timeout
        self._url = settings.upstream_url
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
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.get(f"{self._url}/posts/{(item_id - 1) % POSTS + 1}")
            response.raise_for_status()
            return Details(orjson.loads(response.content), ok=True)
        except httpx.HTTPStatusError as error:
            return Details({"error": f"External service returned status {error.response.status_code}"}, ok=False)
        except (httpx.RequestError, aiohttp.ClientError, TimeoutError, OSError):
            return Details({"error": "External service unavailable"}, ok=False)
        except Exception as error:
            logger.warning("the external API's answer cannot be used: %r", error)
            return Details({"error": "An unexpected error occurred"}, ok=False)
