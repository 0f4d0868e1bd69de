"""Every metric in one table, counted in plain integers, exported at scrape time by exposition.py.

The hot path touches dictionaries and lists only. Every label value of a closed set exists at 0 from
the start, since a series first seen at 1 gives `increase()` = 0 and keeps an alert silent.
"""

import itertools
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, get_args

from drainproxy.errors import failures, refusals

PREFIX: Final = "drainproxy_"

LATENCY_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONNECT_BUCKETS_S = (0.001, 0.01, 0.1, 1.0)
LATE_BUCKETS_S = (0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 60.0, 90.0)
HELD_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LAG_BUCKETS_S = (0.005, 0.025, 0.1, 0.5, 2.5)


PHASES = ("starting", "ready", "propagating", "draining", "drained")
CAUSES = ("deletion", "restart", "node-shutdown", "manual", "unknown")
PROPAGATION_ENDS = ("slices_quiet", "quiet", "max", "alone", "deadline", "upstream_gone", "interrupted")
Ended = Literal["finished", "timed_out", "cut", "refused", "lost"]
OUTCOMES: Final[tuple[Ended, ...]] = get_args(Ended)
TOLD_TO_LEAVE: Final[Literal["told_to_leave"]] = "told_to_leave"
"""What has no end of its own, and was given one so that it goes on elsewhere, has not finished."""
TunnelEnded = Ended | Literal["told_to_leave"]
TUNNEL_OUTCOMES = (*OUTCOMES, TOLD_TO_LEAVE)
TUNNELS = ("websocket", "stream", "other")
StreamEnded = Literal["finished", "reset", "timed_out", "cut", "refused", "lost"]
HandoffEnded = Literal["answered", "lost", "left", "unreachable", "nobody"]
HoldEnded = Literal["back", "in_vain", "left"]
Goodbye = Literal["drain", "age", "held", "idle", "http1", "upstream", "error", "abuse", "limit"]
"""Why a client's HTTP/2 connection is told GOAWAY."""
Excess = Literal["streams", "reset", "ping", "empty", "settings", "continuation"]
"""What an HTTP/2 client can send too much of."""
_MADE: Final = itertools.count()
"""Numbers the metrics, so that a table has them in the order in which they are written here."""

METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"))


class Family:
    """A named metric with labels; `values` maps label values to a number."""

    kind = ""
    name: str
    """Given by the table; a counter's ends in `_total`."""

    def __init__(self, help_: str, /, **labels: Sequence[str]) -> None:
        """`labels` maps each label to its closed set; an open one is bounded where it is counted."""
        self.help = help_
        self.made = next(_MADE)
        self.labels = tuple(labels)
        self.closed = {label: tuple(values) for label, values in labels.items()}
        self.values: dict[tuple[str, ...], float] = {}
        if all(labels.values()):
            self.values = dict.fromkeys(itertools.product(*labels.values()), 0.0)

    def value(self, *labels: str) -> float:
        """Return one series' number, 0 where it has none yet."""
        return self.values.get(labels, 0.0)


class Counter(Family):
    """A number that only grows."""

    kind = "counter"

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Add `by` to the series with these label values."""
        self.values[labels] = self.values.get(labels, 0.0) + by

    def count(self, labels: tuple[str, ...]) -> None:
        """Add 1 to a series that is there from the beginning: its labels are a closed set."""
        self.values[labels] += 1.0


class CounterByKind(Counter):
    """A counter that knows more than it exports: a kind, which would make too many series for a scrape."""

    def __init__(self, help_: str, /, **labels: Sequence[str]) -> None:
        super().__init__(help_, **labels)
        self.by_kind: dict[tuple[str, ...], float] = {}

    def inc(self, *labels: str, by: float = 1.0) -> None:
        """Add `by`; the first of `labels` is the kind."""
        super().inc(*labels[1:], by=by)
        self.by_kind[labels] = self.by_kind.get(labels, 0.0) + by


class Gauge(Family):
    """A number that is what it is now."""

    kind = "gauge"

    def set(self, value: float, *labels: str) -> None:
        """Replace the series' number."""
        self.values[labels] = value

    def choose(self, chosen: str) -> None:
        """Set one series of a single-label gauge to 1 and every other to 0."""
        for labels in self.values:
            self.values[labels] = float(labels == (chosen,))


class Histogram:
    """A count per bucket, unlabelled: the sums are done at scrape time."""

    kind = "histogram"
    name: str
    labels: tuple[str, ...] = ()

    def __init__(self, help_: str, bounds: tuple[float, ...]) -> None:
        self.help = help_
        self.made = next(_MADE)
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, tuple[float, dict[str, str], float]] = {}
        """Bucket -> the last value whose trace somebody may look at, its names, and the time of day."""

    def observe(self, value: float) -> None:
        """Count one value."""
        self.sum += value
        for place, bound in enumerate(self.bounds):  # most values are among the first few
            if value <= bound:
                self.counts[place] += 1
                return
        self.counts[-1] += 1

    def exemplify(self, value: float, names: dict[str, str], at: float) -> None:
        """Have a value that was counted stand for its bucket."""
        self.exemplars[bisect_left(self.bounds, value)] = value, names, at


class Table:
    """What every process counts, whatever it is for."""

    def __init__(self) -> None:
        self._families: list[Family | Histogram] = []
        self.before_scrape: list[Callable[[], None]] = []
        """Gauges that are cheaper to work out when asked."""
        self.unused: set[Family | Histogram] = set()
        """What no scrape shows: that of which it tells is switched off."""
        self.build_info = Gauge("1, with what runs here.", version=(), python=(), flavour=())
        self.log_lines_dropped = Counter("Log lines given up.", reason=("blocked", "rate", "unwritten"))
        # No series where there is no certificate: 0 seconds left would wake somebody.
        self.certificate_expiry_seconds = Gauge("Seconds until the certificate in use expires.", used_for=())
        # The same: most pods send none.
        self.trace_spans = Counter("With trace_endpoint, spans by result: sent, failed, dropped.", result=())
        self.certificate_reloads = Counter("Changed certificate files taken in: ok or failed.", result=())
        self._name()

    def _name(self) -> None:
        """Name each metric for its place in the table: whoever looks for one finds who counts it.

        The last thing that each table does when it is made. `__setattr__` would see to it by itself, but
        mypyc does not call that for what a class sets first.
        """
        self._families.clear()
        for name in dir(self):
            value = getattr(self, name, None)
            if isinstance(value, (Family, Histogram)):
                value.name = f"{name}_total" if value.kind == "counter" else name
                self._families.append(value)
        self._families.sort(key=lambda each: each.made)

    def use(self, *metrics: Family | Histogram) -> None:
        """Have scrapes show what few processes have."""
        self.unused.difference_update(metrics)

    def families(self) -> Iterator[Family | Histogram]:
        """Yield every metric, in the order of the table."""
        yield from self._families


class Metrics(Table):
    """The proxy's table. One object a process; each series is written by the room it is about."""

    def __init__(self) -> None:  # noqa: PLR0915 - a table
        super().__init__()
        # Lifecycle.
        self.phase = Gauge("1 for the phase the process is in.", phase=PHASES)
        self.phase_duration_seconds = Gauge("Seconds spent in each phase so far.", phase=PHASES)
        self.drain_deadline_seconds = Gauge("Seconds left until the drain's deadline; 0 when not draining.")
        self.termination_cause_info = Gauge("1 for the cause of the current termination.", cause=CAUSES)
        self.config_problems = Gauge("Settings that do not fit together.")
        # Propagation.
        self.propagation_end = Counter("Why propagation ended.", reason=PROPAGATION_ENDS)
        self.endpoint_flip_seconds = Gauge(
            "Seconds from drain start until every own EndpointSlice row was not ready."
        )
        self.late_connections = Counter(
            "Connections accepted after the drain began.", kind=("request", "probe", "empty")
        )
        self.late_requests = Counter("Requests that arrived after the drain began.")
        self.after_drained = Counter("Requests that arrived after the proxy had drained.")
        self.late_connection_age_seconds = Histogram(
            "Seconds from drain start to each late arrival.", LATE_BUCKETS_S
        )
        self.last_late_seconds = Gauge("Seconds from drain start to the last late connection with a request.")
        self.other_ready_endpoints = Gauge(
            "Other endpoints that were ready in this pod's Services when last seen."
        )
        self.kubernetes_api_up = Gauge("1 if the Kubernetes API answered the last question.")
        self.kubernetes_requests = Counter(
            "Requests to the Kubernetes API.",
            verb=("read", "watch", "create", "patch"),
            result=("ok", "denied", "failed"),
        )
        self.kubernetes_events_dropped = Counter("Kubernetes Events that nobody will read.")
        # Drain.
        self.drain_requests = Counter(
            "Requests that ended, or were refused, after the drain began.", outcome=OUTCOMES
        )
        self.drain_tunnels = CounterByKind(
            "Tunnels and event streams that ended, or were refused, after the drain began.",
            outcome=TUNNEL_OUTCOMES,
        )
        self.drain_longest_request_seconds = Gauge(
            "Longest request that ended after the drain began, from its whole head."
        )
        self.drain_unused_seconds = Gauge("Seconds that were left until the deadline when the drain ended.")
        # Traffic. `listener`, `method` and `code` are bounded where they are counted.
        self.requests = Counter("Requests answered.", listener=(), method=(), code=(), phase=())
        self.request_duration_seconds = Histogram(
            "From a request's whole head to the end of its answer.", LATENCY_BUCKETS_S
        )
        self.response_head_seconds = Histogram(
            "From a request's whole head to the application's response head.", LATENCY_BUCKETS_S
        )
        self.requests_in_flight = Gauge(
            "Work admitted and not ended.", kind=("http", "http2", "stream", "tunnel")
        )
        self.h2_connections = Gauge("Connections from clients that speak HTTP/2.")
        self.h2_streams = Counter("HTTP/2 streams that have ended.", outcome=get_args(StreamEnded))
        self.h2_goaway = Counter("GOAWAY frames sent to clients.", reason=get_args(Goodbye))
        self.h2_abuse = Counter("HTTP/2 connections ended for too much of something.", kind=get_args(Excess))
        self.requests_queued = Gauge("Requests that wait for their turn.")
        self.client_connections = Gauge("Connections from clients.", state=("active", "idle"))
        self.client_connections_accepted = Counter("Connections accepted from clients.")
        self.client_connections_limit = Gauge("Beyond so many, the longest idle one gives way.")
        self.client_connections_crowded = Gauge("1 while more than four fifths of that limit are taken.")
        self.client_connections_evicted = Counter("Idle connections closed to make room for new ones.")
        self.buffered_bytes = Gauge("Bytes of memory held for clients and by their connections.")
        self.buffered_bytes_limit = Gauge("Beyond so many that wait, connections read little at a time.")
        self.errors = Counter("Requests that failed, and why.", reason=failures())
        self.refused = Counter("Requests and connections turned away, and why.", reason=refusals())
        self.retries = Counter("Requests sent again on a fresh connection.")
        self.bytes = Counter("Body bytes relayed.", direction=("to_upstream", "to_client"))
        # Upstream.
        self.upstream_up = Gauge("1 while the application accepts connections.")
        self.breaker_open = Gauge("1 while connects are given up on for a while.")
        self.upstream_connections = Gauge("Connections to the application.", state=("active", "idle"))
        self.upstream_reuse_off = Gauge(
            "1 while connections to the application are not kept: kept ones held its workers."
        )
        self.upstream_connects = Counter(
            "Attempts to connect to the application.", result=("ok", "refused", "timeout", "error")
        )
        self.upstream_connect_seconds = Histogram("Time to connect to the application.", CONNECT_BUCKETS_S)
        self.upstream_bypass_connections = Gauge(
            "Connections from elsewhere that reach the application around this proxy."
        )
        self.headers_dropped = Counter("Request fields not forwarded.", reason=("underscore",))
        self.upgrades_ignored = Counter(
            "Requests forwarded without their Upgrade.",
            reason=("h2c", "http_1_0", "malformed", "not_nominated"),
        )
        # TLS.
        self.tls_handshakes = Counter("TLS handshakes that callers began.", result=("ok", "failed"))
        # Process.
        self.clock_leaps = Counter("How often the time of day was set anew.")
        self.event_loop_lag_seconds = Histogram("How late the event loop ran its timers.", LAG_BUCKETS_S)
        self._where_switched_on()
        self._name()

    def _where_switched_on(self) -> None:
        """What few pods have."""
        self.requests_held = Gauge("Requests that wait for an application that restarts.")
        self.held = Counter(
            "Requests that waited for the application: it was back, they waited in vain, their clients left.",
            outcome=get_args(HoldEnded),
        )
        self.held_seconds = Histogram("For how long they waited.", HELD_BUCKETS_S)
        self.handoff = Counter(
            "Requests handed on: answered, lost, left by clients; no sibling took them, none was known.",
            outcome=get_args(HandoffEnded),
        )
        self.handoff_received = Counter(
            "Requests that say they were handed on, by who says so.", by=("sibling", "stranger")
        )
        self.warmup_seconds = Gauge("How long the warm-up has taken, so far or in all.")
        self.warmup_requests = Counter("Requests of the warm-up.", result=("answered", "failed"))
        self.first_minute_duration_seconds = Histogram(
            "As request_duration_seconds, of a pod that has been ready for less than a minute.",
            LATENCY_BUCKETS_S,
        )
        self.unused |= {self.requests_held, self.held, self.held_seconds}
        self.unused |= {self.handoff, self.handoff_received}
        self.unused |= {self.warmup_seconds, self.warmup_requests, self.first_minute_duration_seconds}


class WebhookMetrics(Table):
    """The webhook's table. One object a process."""

    def __init__(self) -> None:
        super().__init__()
        self.webhook_reviews = Counter(
            "Reviews by what became of the pod; the last three leave it without what it asked for.",
            result=("injected", "unchanged", "invalid", "refused", "malformed"),
        )
        self.webhook_review_seconds = Histogram("From a review's head to its answer.", LATENCY_BUCKETS_S)
        self.webhook_checks = Counter(
            "Workloads as they were applied, by what will become of their pods.",
            result=("injected", "unchanged", "invalid", "refused", "malformed"),
        )
        self.webhook_pods = Gauge(
            "Pods that ask for the sidecar, by their own label or their namespace's, with it and without.",
            sidecar=("with", "without"),
        )
        self.kubernetes_api_up = Gauge("1 if the Kubernetes API answered the last question.")
        self.kubernetes_requests = Counter(
            "Requests to the Kubernetes API.",
            verb=("read", "watch", "create"),
            result=("ok", "denied", "failed"),
        )
        self.kubernetes_events_dropped = Counter("Kubernetes Events that nobody will read.")
        self._name()
