"""Makes spans and sends them; imported only where there is an address for them, as OpenTelemetry takes its time.

Data: spans that wait, at most QUEUE of them. Flow: a request ends its spans -> the queue -> a thread that posts them.
What the collector does not take, or not in time, is counted and gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context

from items_service.unsent import Unsent

EXPORT_TIMEOUT = 5  # seconds
LAST_EXPORTS = 2  # seconds after the stop of the service in which exports may begin
QUEUE = 2048
NO_PARENT = Context()


class Quiet(logging.Filter):
    """Keeps the SDK's lines, which quote addresses and answers, out of the log, and remembers what went wrong."""

    reason = ""

    def filter(self, record: logging.LogRecord) -> bool:
        for word in record.args if isinstance(record.args, tuple) else ():
            if isinstance(word, BaseException):
                self.reason = type(word).__name__
            elif isinstance(word, int):
                self.reason = f"status {word}"
        return False


class Exporter(SpanExporter):
    """Counts what the collector does not take. One thread exports."""

    def __init__(self, headers: Mapping[str, str], unsent: Unsent) -> None:
        self._collector = trace_exporter.OTLPSpanExporter(timeout=EXPORT_TIMEOUT, headers=dict(headers))
        self._quiet = Quiet()
        logging.getLogger(trace_exporter.__name__).addFilter(self._quiet)
        self._unsent = unsent
        self._until = float("inf")
        self.taken = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        self._quiet.reason = "no answer in time"
        if time.monotonic() > self._until:
            self._quiet.reason = "the service stops"
        elif self._collector.export(spans) is SpanExportResult.SUCCESS:
            return SpanExportResult.SUCCESS
        self._unsent.count(len(spans), self._quiet.reason)
        return SpanExportResult.FAILURE

    def end_soon(self) -> None:
        self._until = time.monotonic() + LAST_EXPORTS

    def shutdown(self) -> None:
        self._collector.shutdown()  # type: ignore[no-untyped-call]  # the library has no types here


class Queue(BatchSpanProcessor):
    """Drops what is beyond its bound, without the line in the log that the SDK has for each."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._unsent = Unsent("spans")
        self._exporter = Exporter(headers, self._unsent)
        self._ended = 0  # by the event loop alone
        super().__init__(self._exporter, max_queue_size=QUEUE)

    def on_end(self, span: ReadableSpan) -> None:
        if self._ended - self._exporter.taken >= QUEUE:
            self._unsent.count(1, "there are more than the collector takes")
            return
        self._ended += 1
        super().on_end(span)

    def shutdown(self) -> None:
        self._exporter.end_soon()
        super().shutdown()  # type: ignore[no-untyped-call]  # nor here


class RequestIds(RandomIdGenerator):
    """Gives the trace that begins the id that was set before."""

    next = 0

    def generate_trace_id(self) -> int:
        return self.next


class Spans:
    """Makes spans, by one thread, and has them sent."""

    def __init__(self, release: str, headers: Mapping[str, str]) -> None:
        self._ids = RequestIds()
        resource = Resource.create({"service.name": "items_service", "service.version": release})
        self._provider = TracerProvider(id_generator=self._ids, resource=resource)
        self._sampler = self._provider.sampler  # the one that OpenTelemetry's variables name
        self._provider.sampler = ALWAYS_ON  # for what is made here was sampled
        self._provider.add_span_processor(Queue(headers))
        self._tracer = self._provider.get_tracer("items_service")

    def samples(self, trace_id: int, name: str) -> bool:
        """Whether the trace is to be made.

        Samplers choose by the second half of an id, which is no random number in a UUID, as HAProxy gives requests: it
        begins with 10. So they get the first one.
        """
        result = self._sampler.should_sample(NO_PARENT, trace_id >> 64, name, SpanKind.SERVER)
        return result.decision is Decision.RECORD_AND_SAMPLE

    def request(self, trace_id: int, name: str) -> Span:
        self._ids.next = trace_id
        return self._tracer.start_span(name, NO_PARENT, SpanKind.SERVER)

    def part_of(self, request: Span, name: str, attributes: Mapping[str, str | int] | None) -> Span:
        return self._tracer.start_span(name, set_span_in_context(request, NO_PARENT), SpanKind.CLIENT, attributes)

    def answered(self, request: Span, method: str, route: str, path: str, status: int) -> None:
        """Say of a request's span what is known when its answer ends."""
        request.update_name(f"{method} {route}")
        request.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "url.path": path,
                "http.response.status_code": status,
            }
        )
        if status >= 500:
            request.set_status(StatusCode.ERROR)

    def shutdown(self) -> None:
        self._provider.shutdown()
