"""The one door to prometheus_client: what metrics.py counts, as a scraper reads it.

The library sees the numbers through one custom collector, once a scrape. Called by the servers of the admin
room and of the webhook.
"""

import contextlib
import itertools
import sys
import types
from collections.abc import Iterator
from typing import cast

from drainproxy.metrics import PREFIX, Family, Histogram, Table


class _Absent(types.ModuleType):
    """Holds a class of any name, from which nothing is inherited."""

    def __getattr__(self, name: str) -> type:
        return type(name, (), {})


@contextlib.contextmanager
def _without(*names: str) -> Iterator[None]:
    """Have nothing in the place of these modules while others are imported that only derive from what is in
    them. Whoever imports one later gets it as it is."""

    absent = [name for name in names if name not in sys.modules]
    sys.modules.update({name: _Absent(name) for name in absent})
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


# The library's exposition has a server and a push gateway's client beside it, of which nothing is used here:
# half of its memory (docs/decisions/0024-a-small-process.md).
with _without("http.server", "urllib.error", "urllib.request", "wsgiref.simple_server"):
    from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, core, exposition
    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Exemplar


class Collector:
    """Hands the table to prometheus_client, once a scrape."""

    def __init__(self, metrics: Table) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Yield one prometheus_client family a metric (prometheus_client's custom collector)."""
        for refresh in self._metrics.before_scrape:
            refresh()
        for metric in self._metrics.families():
            if metric not in self._metrics.unused:
                yield _export(metric)


def _export(metric: Family | Histogram) -> Metric:
    name = PREFIX + metric.name
    if isinstance(metric, Histogram):
        family = core.HistogramMetricFamily(name, metric.help)
        cumulative = list(itertools.accumulate(metric.counts))
        bounds = [*(str(bound) for bound in metric.bounds), "+Inf"]
        shown = [_exemplar(metric, place) for place in range(len(bounds))]
        # The library's own type has no None there, which it takes for none (exposition of OpenMetrics).
        buckets = cast("list[tuple[str, float, Exemplar]]", list(zip(bounds, cumulative, shown, strict=True)))
        family.add_metric([], buckets, metric.sum)
        return family
    kind = core.CounterMetricFamily if metric.kind == "counter" else core.GaugeMetricFamily
    exported = kind(name, metric.help, labels=metric.labels)
    for labels, value in metric.values.items():
        exported.add_metric(labels, value)
    return exported


def _exemplar(histogram: Histogram, bucket: int) -> Exemplar | None:
    """Return what stands for a bucket; only OpenMetrics has a place for it."""
    if (kept := histogram.exemplars.get(bucket)) is None:
        return None
    value, names, at = kept
    return Exemplar(names, value, at)


def scrape(metrics: Table, accept: str) -> tuple[bytes, str]:
    """Return the scrape's body and content type, OpenMetrics or text by `accept`."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(Collector(metrics))
    encode, content_type = exposition.choose_encoder(accept)
    return encode(registry), content_type
