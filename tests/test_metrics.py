"""Every metric: its name, its labels, its numbers from the first scrape on, in both formats there are."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from drainproxy.errors import Blame, leaves
from drainproxy.exposition import scrape
from drainproxy.metrics import LATE_BUCKETS_S, Counter, Family, Gauge, Histogram, Metrics

TEXT = "text/plain"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
BOTH = [TEXT, OPENMETRICS]
PARSERS = {TEXT: parser, OPENMETRICS: openmetrics_parser}

PHASES = "starting ready propagating draining drained"
OUTCOMES = "finished timed_out cut refused lost"
CLIENTS_DOING = (
    "malformed-head ambiguous-framing invalid-host invalid-target malformed-body unsupported-transfer-coding"
    " unknown-method method-refused unsupported-version target-too-long fields-too-large body-too-large"
    " proxy-header-refused loop-detected head-timeout body-timeout client-idle client-gone"
)
UPSTREAMS_DOING = (
    "upstream-refused hold-timeout upstream-untrusted upstream-handshake-failed connect-timeout upstream-gone"
    " upstream-malformed response-head-timeout idle-timeout total-timeout"
)
BY_POLICY = (
    "drain-ending draining drain-deadline leave-overdue too-many-connections too-many-per-client queue-full"
    " queue-timeout breaker-open out-of-buffers too-many-streams out-of-descriptors out-of-sockets"
)
MIDWAY = (
    "malformed-body body-too-large body-timeout client-idle client-gone drain-deadline leave-overdue"
    " breaker-open out-of-buffers out-of-descriptors out-of-sockets"
)

# Name -> kind and, for each label, its closed set; `*` is a set that is bounded where it is counted.
# Dashboards and alerts of others are made from these: a change here is a change of a contract.
CONTRACT = {
    "phase": ("gauge", {"phase": PHASES}),
    "phase_duration_seconds": ("gauge", {"phase": PHASES}),
    "drain_deadline_seconds": ("gauge", {}),
    "termination_cause_info": ("gauge", {"cause": "deletion restart node-shutdown manual unknown"}),
    "config_problems": ("gauge", {}),
    "propagation_end_total": (
        "counter",
        {"reason": "slices_quiet quiet max alone deadline upstream_gone interrupted"},
    ),
    "endpoint_flip_seconds": ("gauge", {}),
    "late_connections_total": ("counter", {"kind": "request probe empty"}),
    "last_late_seconds": ("gauge", {}),
    "other_ready_endpoints": ("gauge", {}),
    "kubernetes_api_up": ("gauge", {}),
    "kubernetes_requests_total": (
        "counter",
        {"verb": "read watch create patch", "result": "ok denied failed"},
    ),
    "kubernetes_events_dropped_total": ("counter", {}),
    "upstream_bypass_connections": ("gauge", {}),
    "late_requests_total": ("counter", {}),
    "after_drained_total": ("counter", {}),
    "late_connection_age_seconds": ("histogram", {}),
    "drain_requests_total": ("counter", {"outcome": OUTCOMES}),
    "drain_tunnels_total": ("counter", {"outcome": f"{OUTCOMES} told_to_leave"}),
    "drain_longest_request_seconds": ("gauge", {}),
    "drain_unused_seconds": ("gauge", {}),
    "requests_total": ("counter", {"listener": "*", "method": "*", "code": "*", "phase": "*"}),
    "request_duration_seconds": ("histogram", {}),
    "response_head_seconds": ("histogram", {}),
    "requests_in_flight": ("gauge", {"kind": "http http2 stream tunnel"}),
    "handoff_total": ("counter", {"outcome": "answered lost left unreachable nobody"}),
    "handoff_received_total": ("counter", {"by": "sibling stranger"}),
    "warmup_seconds": ("gauge", {}),
    "warmup_requests_total": ("counter", {"result": "answered failed"}),
    "first_minute_duration_seconds": ("histogram", {}),
    "requests_held": ("gauge", {}),
    "held_total": ("counter", {"outcome": "back in_vain left"}),
    "held_seconds": ("histogram", {}),
    "requests_queued": ("gauge", {}),
    "h2_connections": ("gauge", {}),
    "h2_streams_total": ("counter", {"outcome": f"{OUTCOMES} reset"}),
    "h2_goaway_total": ("counter", {"reason": "drain age held idle http1 upstream error abuse limit"}),
    "h2_abuse_total": ("counter", {"kind": "streams reset ping empty settings continuation"}),
    "client_connections": ("gauge", {"state": "active idle"}),
    "client_connections_accepted_total": ("counter", {}),
    "client_connections_limit": ("gauge", {}),
    "client_connections_crowded": ("gauge", {}),
    "client_connections_evicted_total": ("counter", {}),
    "buffered_bytes": ("gauge", {}),
    "buffered_bytes_limit": ("gauge", {}),
    "errors_total": ("counter", {"reason": f"{UPSTREAMS_DOING} {MIDWAY} internal"}),
    "refused_total": ("counter", {"reason": f"{CLIENTS_DOING} {BY_POLICY}"}),
    "retries_total": ("counter", {}),
    "bytes_total": ("counter", {"direction": "to_upstream to_client"}),
    "upstream_up": ("gauge", {}),
    "breaker_open": ("gauge", {}),
    "upstream_connections": ("gauge", {"state": "active idle"}),
    "upstream_reuse_off": ("gauge", {}),
    "upstream_connects_total": ("counter", {"result": "ok refused timeout error"}),
    "upstream_connect_seconds": ("histogram", {}),
    "headers_dropped_total": ("counter", {"reason": "underscore"}),
    "upgrades_ignored_total": ("counter", {"reason": "h2c http_1_0 malformed not_nominated"}),
    "trace_spans_total": ("counter", {"result": "*"}),
    "certificate_expiry_seconds": ("gauge", {"used_for": "*"}),
    "tls_handshakes_total": ("counter", {"result": "ok failed"}),
    "certificate_reloads_total": ("counter", {"result": "*"}),
    "clock_leaps_total": ("counter", {}),
    "event_loop_lag_seconds": ("histogram", {}),
    "log_lines_dropped_total": ("counter", {"reason": "blocked rate unwritten"}),
    "build_info": ("gauge", {"version": "*", "python": "*", "flavour": "*"}),
}


def everything() -> Metrics:
    """Everything is switched on."""
    metrics = Metrics()
    metrics.use(*metrics.unused)
    return metrics


def samples(metrics: Metrics, accept: str = TEXT) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Scrape, parse, and return the series by name and labels."""
    body, _ = scrape(metrics, accept)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in PARSERS[accept].text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def ours(metrics: Metrics, accept: str = TEXT) -> dict[str, dict[str, float]]:
    """Return drainproxy's own series: name -> labels as words -> value."""
    table: dict[str, dict[str, float]] = {}
    for (name, labels), value in samples(metrics, accept).items():
        if name.startswith("drainproxy_"):
            words = " ".join(f"{label}={text}" for label, text in labels)
            table.setdefault(name.removeprefix("drainproxy_"), {})[words] = value
    return table


def test_the_table_is_the_contract():
    """No metric and no label comes, goes or changes its kind unnoticed."""
    assert {metric.name: (metric.kind, set(metric.labels)) for metric in Metrics().families()} == {
        name: (kind, set(labels)) for name, (kind, labels) in CONTRACT.items()
    }


CLOSED = {name: labels for name, (_, labels) in CONTRACT.items() if labels and "*" not in labels.values()}


@pytest.mark.parametrize(("name", "labels"), CLOSED.items(), ids=CLOSED.keys())
def test_every_value_of_a_closed_set_is_there_at_0(name, labels):
    """A series first seen at 1 gives `increase()` = 0, and an alert on it stays silent."""
    rows = itertools.product(
        *([f"{label}={value}" for value in labels[label].split()] for label in sorted(labels))
    )
    assert ours(everything())[name] == dict.fromkeys(map(" ".join, rows), 0.0)


PLAIN = [name for name, (kind, labels) in CONTRACT.items() if kind != "histogram" and not labels]


@pytest.mark.parametrize("name", PLAIN)
def test_a_metric_without_labels_is_there_at_0(name):
    """For the same reason."""
    assert ours(everything())[name] == {"": 0.0}


@pytest.mark.parametrize("accept", BOTH)
def test_both_formats_parse_and_say_the_same(accept):
    """Prometheus asks for OpenMetrics, people and older agents for text."""
    metrics = Metrics()
    _use(metrics)
    table = ours(metrics, accept)
    assert table["phase"]["phase=ready"] == 1.0
    assert table["requests_total"] == {"code=200 listener=28080 method=GET phase=serving": 3.0}
    assert table["errors_total"]["reason=upstream-gone"] == 1.0
    assert table["build_info"] == {'flavour=pure python=3.11 version=1 "quoted" \\ and\nbroken': 1.0}
    assert table["request_duration_seconds_count"] == {"": 2.0}
    assert table["bytes_total"] == {"direction=to_client": 10.0, "direction=to_upstream": 0.0}


def test_the_content_type_is_that_of_the_format():
    """Prometheus picks its parser by it."""
    metrics = Metrics()
    assert scrape(metrics, TEXT)[1].startswith("text/plain")
    assert scrape(metrics, "")[1].startswith("text/plain")
    body, content_type = scrape(metrics, OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_an_idle_pod_costs_at_most_240_series():
    """Ten thousand pods are paid for by somebody. The standard collectors are counted too.

    They were 160 while what fails, is refused or speaks HTTP/2 had no series before its first time: then
    `increase()` sees nothing of that time (decision 0006).
    """
    metrics = Metrics()
    metrics.build_info.set(1.0, "1", "3.11", "pure")
    series = samples(metrics)
    assert len(series) <= 240
    for name in ("process_cpu_seconds_total", "process_open_fds", "python_info"):
        assert any(name == series_name for series_name, _ in series)


def test_what_is_switched_off_has_no_series():
    """Few pods hold requests, and every pod is scraped."""
    off, on = ours(Metrics()), ours(everything())
    assert on.keys() - off.keys() >= {"requests_held", "held_total", "held_seconds_count"}


def test_every_metric_says_what_it_is():
    """The help text is what Grafana shows to whoever has never read the manual."""
    body, _ = scrape(everything(), TEXT)
    for name, (kind, _) in CONTRACT.items():
        assert f"# TYPE drainproxy_{name} {kind}\n".encode() in body
    for metric in Metrics().families():
        assert metric.help.endswith(".") or ";" in metric.help or "," in metric.help
        assert metric.help[0].isupper() or metric.help[0] == "1"


# Numbers.


def test_a_counter_counts_each_series_apart():
    """In ones, or in as many as are said."""
    counter = Counter("Things.", colour=("red", "blue"))
    counter.inc("red")
    counter.inc("red", by=2.5)
    assert (counter.value("red"), counter.value("blue"), counter.value("green")) == (3.5, 0.0, 0.0)


def test_a_gauge_is_what_it_was_set_to():
    """The last one counts."""
    gauge = Gauge("Level.")
    gauge.set(3)
    gauge.set(2)
    assert gauge.value() == 2


def test_choosing_leaves_one_series_at_1():
    """Or none, when what is chosen is not in the set: nothing terminates."""
    gauge = Gauge("Mood.", mood=("good", "bad"))
    gauge.choose("bad")
    gauge.choose("good")
    assert gauge.values == {("good",): 1.0, ("bad",): 0.0}
    gauge.choose("")
    assert gauge.values == {("good",): 0.0, ("bad",): 0.0}


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf.reason)
def test_whatever_ends_a_request_is_counted_where_it_was_at_0(leaf, sent):
    """By the same facts that say which series there are."""
    error, metrics = leaf(), Metrics()
    error.sent = sent and (leaf.midway or leaf.blame in {Blame.UPSTREAM, Blame.OURS})
    family = metrics.refused if error.refused else metrics.errors
    assert (error.reason,) in family.values


def test_an_open_set_begins_empty():
    """Its values are not known before they are seen."""
    assert Family("X.", listener=()).values == {}


def test_a_histogram_puts_a_value_on_a_bound_into_the_bucket_of_that_bound():
    """`le` means less or equal."""
    histogram = Histogram("H.", (1.0, 2.0, 5.0))
    for value in (0.0, 1.0, 1.5, 2.0, 5.0, 5.1, 100.0):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1, 2]
    assert histogram.sum == pytest.approx(114.6)


@pytest.mark.parametrize("accept", BOTH)
@given(values=st.lists(st.floats(0, 300), max_size=60))
@settings(deadline=None, max_examples=20, phases=[Phase.explicit, Phase.generate])
def test_exported_buckets_are_cumulative_and_end_with_the_count(accept, values):
    """Each bucket holds all that is at most its bound; `+Inf` and `_count` hold everything."""
    metrics = Metrics()
    for value in values:
        metrics.late_connection_age_seconds.observe(value)
    table = ours(metrics, accept)
    buckets = {
        float(words.removeprefix("le=")): count
        for words, count in table["late_connection_age_seconds_bucket"].items()
    }
    assert sorted(buckets) == [*LATE_BUCKETS_S, float("inf")]
    assert buckets == {bound: sum(value <= bound for value in values) for bound in buckets}
    assert table["late_connection_age_seconds_count"] == {"": float(len(values))}
    assert table["late_connection_age_seconds_sum"][""] == pytest.approx(sum(values))


@pytest.mark.parametrize("metric", [one for one in Metrics().families() if isinstance(one, Histogram)])
def test_bucket_bounds_grow(metric):
    """Counting looks for the place by halving."""
    assert list(metric.bounds) == sorted(set(metric.bounds))
    assert len(metric.counts) == len(metric.bounds) + 1


def test_what_is_cheaper_to_work_out_when_asked_is_asked_once_a_scrape():
    """And before anything is exported, so that all of it is of one moment."""
    metrics, asked = Metrics(), []

    def refresh() -> None:
        asked.append(True)
        metrics.upstream_up.set(float(len(asked)))

    metrics.before_scrape.append(refresh)
    assert ours(metrics)["upstream_up"] == {"": 1.0}
    assert ours(metrics)["upstream_up"] == {"": 2.0}


def _use(metrics: Metrics) -> None:
    """Put something everywhere it matters, odd characters included."""
    metrics.phase.choose("ready")
    for _ in range(3):
        metrics.requests.inc("28080", "GET", "200", "serving")
    metrics.errors.inc("upstream-gone")
    metrics.bytes.inc("to_client", by=10)
    metrics.request_duration_seconds.observe(0.003)
    metrics.request_duration_seconds.observe(99.0)
    metrics.build_info.set(1.0, '1 "quoted" \\ and\nbroken', "3.11", "pure")
