"""What became of a drain, sent to a collector before the process is gone (OTLP/HTTP).

Whoever scrapes every minute seldom meets a pod between its last request and its exit. Imported by
closing.py, and only where `metrics_push` is set. A thread of its own sends it; nobody waits for it beyond a
bound.
"""

import logging
import time
import uuid
from collections.abc import Iterator, Mapping

from opentelemetry.exporter.otlp.proto.http import metric_exporter
from opentelemetry.sdk.metrics import export
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from drainproxy import __version__, tasks
from drainproxy.metrics import PREFIX, Family, Metrics

FINAL = PREFIX + "final_"
"""Not the names of what is scraped: who was scraped in time and pushed too would be counted twice."""

RESOURCE = {
    "pod": "k8s.pod.name",
    "namespace": "k8s.namespace.name",
    "node": "k8s.node.name",
    "workload": "drainproxy.workload",
}
"""OpenTelemetry's names (Semantic Conventions: Kubernetes); it has none for a workload of any kind."""

MAX_WORDS = 200
"""Characters of the library's that are told: a collector's whole answer may be in them."""

_LIBRARY = logging.getLogger(metric_exporter.__name__)


class Push:
    """Of one process, and used once."""

    def __init__(self, endpoint: str, place: Mapping[str, str], metrics: Metrics, *, within_s: float) -> None:
        """`place`: of the pod, as reports tell it. `within_s`: for all of it, tries again included."""
        self._metrics, self._place, self.within_s = metrics, dict(place), within_s
        own = {"service.name": "drainproxy", "service.version": __version__}
        # Each process has series of its own: a StatefulSet's next pod has this one's name.
        own["service.instance.id"] = str(uuid.uuid4())
        own |= {RESOURCE[name]: text for name, text in place.items()}
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say counts more.
        self._resource = Resource(own).merge(OTELResourceDetector().detect())
        self._exporter = metric_exporter.OTLPMetricExporter(endpoint=endpoint, timeout=within_s)
        self._said = ""
        _LIBRARY.addFilter(self._hear)

    async def send(self, within_s: float) -> str:
        """Send what is counted now, for `within_s` at most; return why nobody will see it, or nothing."""
        final, failures = self._final(), ["no answer in time"]

        def deliver() -> None:
            try:
                done = self._exporter.export(final, timeout_millis=within_s * 1000)
                failures[0] = "" if done is export.MetricExportResult.SUCCESS else self._said or "not taken"
            except Exception as failure:
                # A library's: none of them may keep a pod.
                failures[0] = repr(failure)[:MAX_WORDS]

        await tasks.aside(deliver, "push", within_s)
        return failures[0]

    def _hear(self, record: logging.LogRecord) -> bool:
        """Keep what the library says of a failure for the one line that there is (logging.Filter)."""
        self._said = record.getMessage()[:MAX_WORDS]
        return False

    def _final(self) -> export.MetricsData:
        for refresh in self._metrics.before_scrape:
            refresh()
        scope = InstrumentationScope("drainproxy", __version__)
        scopes = [export.ScopeMetrics(scope, list(self._exported(time.time_ns())), "")]
        return export.MetricsData([export.ResourceMetrics(self._resource, scopes, "")])

    def _exported(self, now_ns: int) -> Iterator[export.Metric]:
        """Yield gauges: of one point a counter's rate is nothing, and the number itself is what is asked."""
        for family, whole in _chosen(self._metrics):
            points = [
                export.NumberDataPoint(
                    {**self._place, **dict(zip(family.labels, labels, strict=True))}, now_ns, now_ns, value
                )
                for labels, value in family.values.items()
                if whole or value
            ]
            if points:
                name = FINAL + family.name.removesuffix("_total")
                yield export.Metric(name, family.help, "", export.Gauge(points))


def names(metrics: Metrics) -> set[str]:
    """Return what may be pushed, by name."""
    return {FINAL + family.name.removesuffix("_total") for family, _ in _chosen(metrics)}


def _chosen(metrics: Metrics) -> Iterator[tuple[Family, bool]]:
    """Yield what tells of a drain, and whether a 0 says something too."""
    yield metrics.drain_requests, True
    yield metrics.drain_tunnels, True
    yield metrics.late_requests, True
    yield metrics.after_drained, True
    yield metrics.last_late_seconds, True
    yield metrics.endpoint_flip_seconds, True
    yield metrics.drain_longest_request_seconds, True
    yield metrics.drain_unused_seconds, True
    yield metrics.phase_duration_seconds, False
    yield metrics.propagation_end, False
    yield metrics.termination_cause_info, False
    yield metrics.held, False
    yield metrics.handoff, False
