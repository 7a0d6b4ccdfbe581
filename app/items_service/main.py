"""The ASGI application. Importing this module reads the settings, so a wrong one stops a release before it serves."""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from items_service import handlers, tracing
from items_service.access_log import AccessLog
from items_service.cache import Cache
from items_service.changes import Changes
from items_service.clusters import Clusters
from items_service.database import Database, DatabaseUnavailable
from items_service.handlers import JSON, State
from items_service.health import Health
from items_service.hot import HotAnswers
from items_service.items import Items
from items_service.metrics import Metrics, metrics
from items_service.sentry import reported
from items_service.settings import Settings
from items_service.upstream import Upstream

MAX_BODY = 64 * 1024  # bytes of a request's body
logger = logging.getLogger(__name__)

routes = [
    Route("/", handlers.index),
    Route("/items", handlers.ItemsEndpoint),
    Route("/items/{id}", handlers.ItemEndpoint),
    Route("/items/{id}/changes", handlers.changes),
    Route("/health", handlers.alive),
    Route("/livez", handlers.alive),
    Route("/readyz", handlers.ready),
    Route("/metrics", metrics),
    WebSocketRoute("/ws", handlers.echo),
    Mount("/static", StaticFiles(directory=Path(__file__).parent / "static", html=True)),
]


class ResponseHeaders:
    """Says who answered; while draining, asks the client to come back over another connection."""

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        self.app = app
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self.headers)
                if scope["state"]["health"].draining:
                    headers["Connection"] = "close"
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def spare_the_collector() -> None:
    """Look for cycles seldom: each look walks over what all the requests in flight hold, thousands of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSON({"error": error.detail}, error.status_code, headers=dict(error.headers or {}))


async def database_unavailable(request: Request, error: Exception) -> Response:
    logger.warning("%s %s: %s", request.method, request.url.path, error)
    return JSON({"error": "The database is unavailable, try again"}, 503, headers={"Retry-After": "1"})


async def client_left(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # for those who watch; it reaches nobody


async def server_error(request: Request, error: Exception) -> Response:
    return JSON({"error": "Internal server error"}, 500)


def create_app(settings: Settings) -> ASGIApp:
    headers = {"X-Served-By": socket.gethostname(), "X-Release": settings.release_id}
    store = Clusters if settings.sharded else Database
    hot = HotAnswers(headers, store.step)
    counted = Metrics(settings.metrics, settings.release_id)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        async with (
            tracing.traced(settings.release_id, settings.otlp_headers),
            store(settings) as database,
            Cache(settings) as cache,
            Upstream(settings) as upstream,
            Changes(cache, on_write=hot.forget, on_loss=hot.clear) as changes,
        ):
            checks = {**database.checks, "cache": cache.check}
            items = Items(database, cache, upstream, hot)
            spare_the_collector()
            async with (
                Health(checks, changes.release) as health,
                counted.reported(lambda: hot.given, items.answers, upstream.calls, database.pools),
            ):
                yield State(database=database, items=items, changes=changes, health=health)

    service: ASGIApp = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(ResponseHeaders, headers=headers)],
        exception_handlers={
            HTTPException: http_error,
            DatabaseUnavailable: database_unavailable,
            ClientDisconnect: client_left,
            Exception: server_error,
        },
        max_body_size=MAX_BODY,
    )
    if settings.sentry_dsn:
        service = reported(service, settings.sentry_dsn, settings.release_id)
    whole = hot.middleware(counted.middleware(service))
    if tracing.WANTED:
        whole = tracing.Traced(whole)
    return AccessLog(whole, settings.release_id) if settings.access_log else whole


app = create_app(Settings.from_environment())
