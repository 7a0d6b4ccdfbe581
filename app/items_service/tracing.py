"""Traces over OTLP, where $OTEL_EXPORTER_OTLP_ENDPOINT says to send them; without it nothing of this is even imported.

Data: spans; the id of their trace is the load balancer's request id. Flow: a request, its statements, its commands to
the cache and its calls out -> a queue -> the collector, by a thread. A collector that is away, or slow, costs spans,
which are counted, and nothing else. Its address and the sampler are set by OpenTelemetry's own variables, and its
headers, which are secrets, by the file otlp_headers of $CREDENTIALS_DIRECTORY.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Receive, Scope, Send

from items_service.observed import Seen, request_id, route

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

WANTED = bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
PARENT = (b"traceparent", b"tracestate", b"baggage")  # headers by which a request is a part of its client's trace
NOTHING: AbstractContextManager[Any] = nullcontext()

_tracer: Tracer | None = None
_wanted: ContextVar[int] = ContextVar("trace id", default=0)


def span(name: str, attributes: dict[str, str | int] | None = None) -> AbstractContextManager[Any]:
    """For a ``with`` block that asks another server: it becomes a part of the request's trace, if that is wanted."""
    if _tracer is None:
        return NOTHING
    from opentelemetry.trace import SpanKind, get_current_span

    if not get_current_span().is_recording():
        return NOTHING

    return _tracer.start_as_current_span(name, kind=SpanKind.CLIENT, attributes=attributes)


def headers() -> dict[str, str]:
    """For a server that is asked over HTTP: they tell it of the trace."""
    found: dict[str, str] = {}
    if _tracer is not None:
        from opentelemetry.propagate import inject

        inject(found)
    return found


@asynccontextmanager
async def traced(release: str, credentials: Mapping[str, str]) -> AsyncIterator[None]:
    """While it lasts spans are made and sent, where there is an address, with these headers."""
    global _tracer
    if not WANTED:
        yield
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    from items_service.collector import FirstHalf, Queue

    class RequestIds(RandomIdGenerator):
        def generate_trace_id(self) -> int:
            return _wanted.get() or super().generate_trace_id()

    resource = Resource.create({"service.name": "items_service", "service.version": release})
    provider = TracerProvider(id_generator=RequestIds(), resource=resource)
    provider.sampler = FirstHalf(provider.sampler)
    provider.add_span_processor(Queue(credentials))
    _tracer = provider.get_tracer("items_service")
    try:
        yield
    finally:
        _tracer = None
        await asyncio.to_thread(provider.shutdown)


class Traced:
    """Each request is a trace, or a part of its client's."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _tracer is None:
            return await self.app(scope, receive, send)
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, StatusCode

        seen = Seen(send)
        name = request_id(scope) or ""
        _wanted.set(int(name, 16) if re.fullmatch("[0-9a-f]{32}", name) else 0)
        given = {str(key, "latin-1"): str(value, "latin-1") for key, value in scope["headers"] if key in PARENT}
        parent = extract(given) if given else None
        with _tracer.start_as_current_span(scope["method"], parent, kind=SpanKind.SERVER) as current:
            if not current.is_recording():
                return await self.app(scope, receive, send)
            try:
                await self.app(scope, receive, seen.send)
            finally:
                current.update_name(f"{scope['method']} {route(scope)}")
                current.set_attributes(
                    {
                        "http.request.method": scope["method"],
                        "http.route": route(scope),
                        "url.path": scope["path"],
                        "http.response.status_code": seen.status,
                        "http.request_id": name,
                    }
                )
                if seen.status >= 500:
                    current.set_status(StatusCode.ERROR)
