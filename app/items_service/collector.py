"""Sends spans to a collector; imported only where there is an address for them, as OpenTelemetry takes its time.

Data: spans that wait, at most QUEUE of them. Flow: a request ends its spans -> the queue -> a thread that posts them.
What the collector does not take, or not in time, is counted and gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult

from items_service.unsent import Unsent

EXPORT_TIMEOUT = 5  # seconds
LAST_EXPORTS = 2  # seconds after the stop of the service in which exports may begin
QUEUE = 2048


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


class FirstHalf(Sampler):
    """Lets a sampler choose by the first half of a trace's id.

    The SDK's choose by the second, which is no random number in a UUID, as HAProxy gives requests: it begins with 10.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self, parent_context: Context | None, trace_id: int, *arguments: Any, **more: Any
    ) -> SamplingResult:
        return self._sampler.should_sample(parent_context, trace_id >> 64, *arguments, **more)

    def get_description(self) -> str:
        return f"{self._sampler.get_description()} by the first half"
