"""Traces over OTLP, where $OTEL_EXPORTER_OTLP_ENDPOINT says to send them; without it nothing of this is even imported.

Data: spans; the id of their trace is the load balancer's request id, and never one that a client asks for. Flow: a
request -> the sampler, which most leave at once -> its statements, its commands to the cache and its calls out -> a
queue -> the collector, by a thread. A collector that is away, or slow, costs spans, which are counted, and nothing
else. Its address and the sampler are set by OpenTelemetry's own variables, and its headers, which are secrets, by the
file otlp_headers of $CREDENTIALS_DIRECTORY.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from random import getrandbits
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from items_service.observed import Seen, route, trace_id

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from items_service.collector import Spans

WANTED = bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
NOTHING: AbstractContextManager[Span | None] = nullcontext()

_spans: Spans | None = None
_trace_id: ContextVar[int] = ContextVar("the request's trace id", default=0)
_request: ContextVar[Span | None] = ContextVar("the request's span, if it is sampled", default=None)


def span(name: str, attributes: dict[str, str | int] | None = None) -> AbstractContextManager[Span | None]:
    """For a ``with`` block that asks another server: it becomes a part of the request's trace, if that is sampled."""
    request = _request.get()
    if request is None or _spans is None or not request.is_recording():
        return NOTHING
    return _spans.part_of(request, name, attributes)


def headers(asking: Span | None) -> dict[str, str]:
    """For a server that is asked over HTTP within that span: what tells it of the trace, and whether it is sampled."""
    if asking is not None:
        known = asking.get_span_context()
        return {"traceparent": f"00-{known.trace_id:032x}-{known.span_id:016x}-{known.trace_flags:02x}"}
    if trace := _trace_id.get():
        return {"traceparent": f"00-{trace:032x}-{getrandbits(64) | 1:016x}-00"}
    return {}


@asynccontextmanager
async def traced(release: str, credentials: Mapping[str, str]) -> AsyncIterator[None]:
    """While it lasts spans are made and sent, where there is an address, with these headers."""
    global _spans
    if not WANTED:
        yield
        return
    from items_service.collector import Spans

    spans = _spans = Spans(release, credentials)
    try:
        yield
    finally:
        _spans = None
        await asyncio.to_thread(spans.shutdown)


class Traced:
    """Each request is a trace; one that is not sampled has no span."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        spans = _spans
        if scope["type"] != "http" or spans is None:
            return await self.app(scope, receive, send)
        trace = trace_id(scope)
        _trace_id.set(trace)
        if not spans.samples(trace, scope["method"]):
            return await self.app(scope, receive, send)
        seen = Seen(send)
        with spans.request(trace, scope["method"]) as span:
            _request.set(span)
            try:
                await self.app(scope, receive, seen.send)
            finally:
                spans.answered(span, scope["method"], route(scope), scope["path"], seen.status)
