"""One server span a request, and the caller's trace passed on (OpenTelemetry; W3C Trace Context).

Imported by telemetry/, and only where `trace_endpoint` is set: it loads opentelemetry. Spans
leave by a thread of their own, from a bounded queue: one that does not fit is dropped and counted.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from drainproxy import __version__, tasks
from drainproxy.metrics import METHODS, Metrics
from drainproxy.proxy.accounting.shown import shown, shown_path
from drainproxy.proxy.message.filters import Hop
from drainproxy.proxy.message.headers import name_of
from drainproxy.proxy.message.parser import RequestHead

MAX_QUEUED = 2048
"""Ended spans that may wait or be on their way: some 6 MB (2026-11-25)."""

SEND_TIMEOUT_S = 5.0
"""For one batch, tries again included."""

_W3C = TraceContextTextMapPropagator()


class Tracing:
    """Of one process. Used on the event loop's thread."""

    sets = frozenset((b"traceparent", b"tracestate"))

    def __init__(self, endpoint: str, ratio: float, metrics: Metrics) -> None:
        """`endpoint`: where OTLP/HTTP is taken, with its path. `ratio`: of traces that begin here."""
        # A context that cannot be read is no news, and any client can send one.
        logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say counts more.
        resource = Resource({"service.name": "drainproxy"}).merge(OTELResourceDetector().detect())
        self._spans = _Spans(_Exporter(endpoint=endpoint, timeout=SEND_TIMEOUT_S))
        sampler = ParentBased(TraceIdRatioBased(ratio))
        provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._spans)
        self._tracer = provider.get_tracer("drainproxy", __version__)
        self._metrics = metrics
        metrics.before_scrape.append(self._export_counts)

    def prepare(self, head: RequestHead, hop: Hop) -> None:
        """Begin a request's span; its context goes into the head in place of the caller's (RequestFilter)."""
        came: dict[str, list[str]] = {}
        kept = []
        for line in head.fields:
            if (name := name_of(line)) in self.sets:
                came.setdefault(name.decode(), []).append(line.partition(b":")[2].strip().decode("latin-1"))
            else:
                kept.append(line)
        if len(came.get("traceparent", ())) > 1:
            # Two readings: a new trace begins, as after one that cannot be read (Trace Context section 4.3).
            came.clear()
        method = head.method.decode("ascii", "replace")
        known = method in METHODS
        span = self._tracer.start_span(method if known else "HTTP", _W3C.extract(came), trace.SpanKind.SERVER)
        if span.is_recording():
            said: dict[str, Any] = {"http.request.method": method if known else "_OTHER"}
            said |= {"url.path": shown_path(head.target), "url.scheme": hop.scheme.decode()}
            said["client.address"] = hop.client.decode()
            said["network.protocol.version"] = f"1.{head.http_1_1:d}"
            if b"user-agent" in head.noted:
                said["user_agent.original"] = shown(head.noted[b"user-agent"])
            span.set_attributes(said)
        goes: dict[str, str] = {}
        _W3C.inject(goes, trace.set_span_in_context(span))
        head.fields = kept + [f"{name}: {text}\r\n".encode("ascii", "replace") for name, text in goes.items()]
        head.span = span

    def ids(self, head: RequestHead) -> dict[str, str]:
        """Return what a line says of a request's trace, whether or not its spans are sent."""
        span = getattr(head, "span", None)
        context = None if span is None else span.get_span_context()
        if context is None or not context.is_valid:
            return {}
        return {
            "trace_id": trace.format_trace_id(context.trace_id),
            "span_id": trace.format_span_id(context.span_id),
        }

    def end(self, head: RequestHead | None, status: int, reason: str = "", took_s: float = 0.0) -> None:
        """End it. `reason`: why it failed by our doing or the application's. `took_s`: as it was counted."""
        span = getattr(head, "span", None)
        if head is None or span is None:
            return
        if span.is_recording():
            span.set_attribute("http.response.status_code", status)
            if reason or status >= 500:
                span.set_attribute("error.type", reason or str(status))
            if status >= 500:
                span.set_status(trace.StatusCode.ERROR)
            if took_s:
                # Others took as long: whoever wonders why may look at this one (OpenMetrics: Exemplars).
                self._metrics.request_duration_seconds.exemplify(took_s, self.ids(head), time.time())
        span.end()

    async def close(self, within_s: float) -> int:
        """Send what waits, for `within_s` at most; return how many spans nobody will see."""
        await tasks.aside(self._spans.shutdown, "traces", within_s)
        return self._spans.ended - self._spans.exporter.sent

    def _export_counts(self) -> None:
        spans, exporter = self._spans, self._spans.exporter
        values = self._metrics.trace_spans.values
        values["sent",], values["failed",], values["dropped",] = exporter.sent, exporter.failed, spans.dropped


class _Exporter(OTLPSpanExporter):
    """Counts what it has done, on the thread that sends."""

    sent = failed = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = super().export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self.sent += len(spans)
            else:
                self.failed += len(spans)
        return result


class _Spans(BatchSpanProcessor):
    """The queue. The library's own drops the oldest span without a count."""

    def __init__(self, exporter: _Exporter) -> None:
        super().__init__(exporter, max_queue_size=MAX_QUEUED, schedule_delay_millis=1000)
        self.exporter = exporter
        self.ended = self.dropped = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1
        exporter = self.exporter
        if self.ended - self.dropped - exporter.sent - exporter.failed > MAX_QUEUED:
            self.dropped += 1
        else:
            super().on_end(span)
