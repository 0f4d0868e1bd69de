"""What the dashboard shows: rows of panels, each with its words and its queries. Called by dashboard.py.

A panel says what it tells a person who was woken by it.
"""

from __future__ import annotations

from typing import NamedTuple

from promql import (
    DRAINED,
    HOOK,
    LOST,
    RANGE,
    SIDECAR,
    STEP,
    TABLE,
    WAITED,
    by_callers,
    causes,
    ended,
    grown,
    last,
    quantile,
    rate,
    total,
)

FULL, HALF, THIRD, QUARTER, SIXTH = 24, 12, 8, 6, 4

GOOD, FAIR, POOR, BAD, WORST, OTHER = "green", "yellow", "orange", "red", "dark-red", "blue"
COLOURS = {
    "finished": GOOD,
    "told_to_leave": OTHER,
    "refused": FAIR,
    "timed_out": POOR,
    "cut": BAD,
    "lost": WORST,
    "ready": GOOD,
    "starting": OTHER,
    "propagating": FAIR,
    "draining": POOR,
    "drained": "purple",
    "slices_quiet": GOOD,
    "quiet": "light-green",
    "max": BAD,
    "alone": POOR,
    "deadline": WORST,
    "with": GOOD,
    "without": BAD,
}
"""By the value of the label that a legend shows: one meaning, one colour, in every panel."""


class Panel(NamedTuple):
    """`queries`: legend -> PromQL."""

    title: str
    about: str
    width: int
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    bad: str = ""
    """Of one number: its colour above 0."""


ROWS: dict[str, list[Panel]] = {
    "In this time range": [
        Panel(
            "5xx that callers saw",
            "Counted by the balancer or ingress chosen above; an ALB's count is of all its targets.",
            SIXTH,
            "short",
            by_callers("increase", RANGE),
            "stat",
            BAD,
        ),
        Panel("Pods that drained", "", SIXTH, "short", {"drains": f"sum({DRAINED})"}, "stat", GOOD),
        Panel(
            "Lost",
            "The application or the proxy ended before them: no answer, or half of one.",
            SIXTH,
            "short",
            {"lost": total("lost")},
            "stat",
            WORST,
        ),
        Panel(
            "Cut or timed out",
            "The deadline, or drain_timeout, was shorter than they.",
            SIXTH,
            "short",
            {"cut": f"({total('cut')}) + ({total('timed_out')})"},
            "stat",
            BAD,
        ),
        Panel(
            "Refused",
            "503 in a drain: safe to repeat, and seen by the caller.",
            SIXTH,
            "short",
            {"refused": total("refused")},
            "stat",
            FAIR,
        ),
        Panel(
            "Told to leave",
            "WebSockets and event streams that were given an end, and go on elsewhere.",
            SIXTH,
            "short",
            {"told": total("told_to_leave")},
            "stat",
            OTHER,
        ),
        Panel(
            "The last drains",
            "Newest first. lost: requests and tunnels lost, cut or timed out. A pod leads to its logs.",
            FULL,
            "short",
            TABLE,
            "table",
        ),
    ],
    "What callers saw": [
        Panel(
            "5xx answers seen in front of the pods",
            "Counted by the balancer or ingress chosen above. If this rises in a rollout, requests were lost,"
            " whatever the pods say of themselves.",
            HALF,
            "reqps",
            by_callers("rate", STEP),
        ),
        Panel(
            "Requests cut, timed out or lost by draining pods",
            "0 is the only good number.",
            HALF,
            "short",
            {
                "{{workload}} {{outcome}}": "sum by (workload, outcome)"
                f" ({ended('drain_requests', 'outcome', LOST)})"
            },
        ),
    ],
    "Drains": [
        Panel(
            "Pods by phase",
            "A pod counts in each phase in which it was seen in the interval. Steps down in ready and up in"
            " propagating are rollouts.",
            THIRD,
            "short",
            {"{{phase}}": f"sum by (phase) (max_over_time(drainproxy_phase{{<labels>}}[{STEP}]))"},
        ),
        Panel(
            "Requests ended since their drain began",
            "finished is work that a bare application would have dropped.",
            THIRD,
            "short",
            {"{{outcome}}": f"sum by (outcome) ({ended('drain_requests', 'outcome')})"},
        ),
        Panel(
            "Tunnels and event streams ended since their drain began",
            "told_to_leave: they got an end, and go on elsewhere. finished: they ended by themselves.",
            THIRD,
            "short",
            {"{{outcome}}": f"sum by (outcome) ({ended('drain_tunnels', 'outcome')})"},
        ),
        Panel(
            "Why pods ended",
            "deletion: a rollout, a scale-down, a node that is drained. restart: the container alone.",
            THIRD,
            "short",
            {"{{cause}}": f"sum by (cause) ({causes(STEP)})"},
        ),
        Panel(
            "Why propagation ended",
            "max: the cluster had not forgotten the pod yet. alone: no successor was ready in time.",
            THIRD,
            "short",
            {"{{reason}}": f"sum by (reason) ({ended('propagation_end', 'reason')})"},
        ),
        Panel(
            "Late arrivals",
            "After the drain: requests that came when the pod was ready to go. Above 0, raise propagation.",
            THIRD,
            "short",
            {"late": f"sum({ended('late_requests')})", "after the drain": f"sum({ended('after_drained')})"},
        ),
        Panel(
            "Age of late arrivals, beside how long pods waited",
            "Late arrivals that are older than the wait are requests that came to a pod that was gone.",
            THIRD,
            "s",
            {
                "p50 of late arrivals": quantile(0.5, "drainproxy_late_connection_age_seconds"),
                "p99 of late arrivals": quantile(0.99, "drainproxy_late_connection_age_seconds"),
                "shortest wait": f"min({WAITED})",
                "slices flipped after": f"max({last('endpoint_flip_seconds')})",
            },
        ),
        Panel(
            "Grace left over",
            "Always large: terminationGracePeriodSeconds may be shorter. 0: the deadline cut.",
            THIRD,
            "s",
            {"least of {{workload}}": f"min by (workload) ({last('drain_unused_seconds')})"},
        ),
        Panel(
            "Time left until the deadline",
            "Of the pod of each workload that is nearest to it, or was when it was last seen.",
            THIRD,
            "s",
            {
                "{{workload}}": "min by (workload)"
                f" (last_over_time(drainproxy_drain_deadline_seconds{{<labels>}}[{STEP}]) > 0)"
            },
        ),
    ],
    "Held and handed on": [
        Panel(
            "Requests held",
            "hold_while_down: they wait for an application that restarts. in_vain: it did not come back.",
            QUARTER,
            "short",
            {
                "now": f"sum(max_over_time(drainproxy_requests_held{{<labels>}}[{STEP}]))",
                "{{outcome}}": grown("drainproxy_held_total", "outcome"),
            },
        ),
        Panel(
            "For how long they were held",
            "What a caller waits instead of getting 502.",
            QUARTER,
            "s",
            {
                "p50": quantile(0.5, "drainproxy_held_seconds"),
                "p99": quantile(0.99, "drainproxy_held_seconds"),
            },
        ),
        Panel(
            "Requests handed on",
            "handoff: late requests that a sibling answered. unreachable: a NetworkPolicy forbids it.",
            QUARTER,
            "short",
            {"{{outcome}}": f"sum by (outcome) ({ended('handoff', 'outcome')})"},
        ),
        Panel(
            "Requests received from siblings",
            "stranger: somebody else says that a request was handed on.",
            QUARTER,
            "short",
            {"{{by}}": grown("drainproxy_handoff_received_total", "by")},
        ),
    ],
    "Traffic": [
        Panel(
            "In flight",
            "What a drain would have to wait for now.",
            THIRD,
            "short",
            {
                "{{kind}}": "sum by (kind) (drainproxy_requests_in_flight{<labels>})",
                "queued": "sum(drainproxy_requests_queued{<labels>})",
            },
        ),
        Panel(
            "Requests by code",
            "Answers of the application and of drainproxy together.",
            THIRD,
            "reqps",
            {"{{code}}": rate("drainproxy_requests_total", "code")},
        ),
        Panel(
            "Time to the answer's head",
            "What the application takes; the proxy adds well under a millisecond.",
            THIRD,
            "s",
            {
                "p50": quantile(0.5, "drainproxy_response_head_seconds"),
                "p99": quantile(0.99, "drainproxy_response_head_seconds"),
            },
        ),
        Panel(
            "Errors by reason",
            "docs/errors.md says whose doing each one is.",
            THIRD,
            "reqps",
            {"{{reason}}": rate("drainproxy_errors_total", "reason")},
        ),
        Panel(
            "Refused by policy",
            "Requests that never reached the application, so that they are safe to repeat.",
            THIRD,
            "reqps",
            {"{{reason}}": rate("drainproxy_refused_total", "reason")},
        ),
        Panel(
            "Bytes",
            "Bodies only.",
            THIRD,
            "Bps",
            {"{{direction}}": rate("drainproxy_bytes_total", "direction")},
        ),
    ],
    "Application and proxy": [
        Panel(
            "Applications up, breakers open",
            "An open breaker answers 503 at once instead of waiting for connects that fail.",
            THIRD,
            "short",
            {
                "up": "sum(drainproxy_upstream_up{<labels>})",
                "breaker open": "sum(drainproxy_breaker_open{<labels>})",
            },
        ),
        Panel(
            "Connects to the application",
            "Anything but ok is worth a look.",
            THIRD,
            "ops",
            {
                "{{result}}": rate("drainproxy_upstream_connects_total", "result"),
                "retries": "sum(rate(drainproxy_retries_total{<labels>}[$__rate_interval]))",
            },
        ),
        Panel(
            "Connections around the proxy",
            "Nothing drains these: a Service or a probe points at the application itself.",
            THIRD,
            "short",
            {"{{workload}}": "sum by (workload) (drainproxy_upstream_bypass_connections{<labels>})"},
        ),
        Panel(
            "Asking the cluster",
            "denied: a Role is missing, and drains go by time and quiet.",
            THIRD,
            "short",
            {"{{verb}} {{result}}": grown("drainproxy_kubernetes_requests_total", "verb, result")},
        ),
        Panel(
            "Versions",
            "More than one line outside a rollout is skew.",
            THIRD,
            "short",
            {"{{version}}": "count by (version) (drainproxy_build_info{<labels>})"},
        ),
        Panel(
            "Sidecar restarts",
            "Each one lost what was in flight.",
            THIRD,
            "short",
            {
                "{{pod}}": f"sum by (pod) (increase(kube_pod_container_status_restarts_total{SIDECAR}[1h])"
                f" or increase(kube_pod_init_container_status_restarts_total{SIDECAR}[1h]))"
            },
        ),
        Panel(
            "Memory and CPU of the proxy",
            "By its own counters.",
            HALF,
            "short",
            {
                "MiB, largest": 'max(process_resident_memory_bytes{<labels>, container="drainproxy"})'
                " / 1048576",
                "cores, all": 'sum(rate(process_cpu_seconds_total{<labels>, container="drainproxy"}'
                "[$__rate_interval]))",
            },
        ),
        Panel(
            "Event loop lag",
            "Late timers mean too little CPU.",
            HALF,
            "s",
            {"p99": quantile(0.99, "drainproxy_event_loop_lag_seconds")},
        ),
    ],
    "Webhook": [
        Panel(
            "Reviews by outcome",
            "By the webhook itself: only the variable cluster applies. invalid and refused leave a pod"
            " without what it asked for; its Event says why.",
            QUARTER,
            "short",
            {
                "pods {{result}}": "sum by (result)"
                f" (increase(drainproxy_webhook_reviews_total{HOOK}[{STEP}]))",
                "workloads {{result}}": "sum by (result)"
                f" (increase(drainproxy_webhook_checks_total{HOOK}[{STEP}]))",
            },
        ),
        Panel(
            "Time to review",
            "The API server waits for it, with every pod that is created.",
            QUARTER,
            "s",
            {
                f"p{share:.0%}".rstrip("%"): f"histogram_quantile({share}, sum by (le)"
                f" (rate(drainproxy_webhook_review_seconds_bucket{HOOK}[{STEP}])))"
                for share in (0.5, 0.99)
            },
        ),
        Panel(
            "Until its certificate expires",
            "Without one nothing is injected: pods start bare, or not at all with failurePolicy Fail.",
            QUARTER,
            "s",
            {
                "{{pod}}": "min by (pod)"
                f" (last_over_time(drainproxy_certificate_expiry_seconds{HOOK}[{STEP}])"
                f" and on (cluster, namespace, pod) last_over_time(drainproxy_webhook_pods{HOOK}[{STEP}]))"
            },
        ),
        Panel(
            "Pods that ask for the sidecar, with it and without",
            "without: created while the webhook was away, or left alone for a reason that an Event tells.",
            QUARTER,
            "short",
            {"{{sidecar}}": f"max by (sidecar) (max_over_time(drainproxy_webhook_pods{HOOK}[{STEP}]))"},
        ),
    ],
    "Over weeks": [
        Panel(
            "Requests and tunnels ended in drains, in the 10 minutes before",
            "Of the chart's recording rules: one series a workload, quick over any range.",
            HALF,
            "short",
            {
                f"{kind} {{{{outcome}}}}": "sum by (outcome)"
                f" (max_over_time(workload:drainproxy_drain_{kind}:ended10m{{<labels>}}[{STEP}]))"
                for kind in ("requests", "tunnels")
            },
        ),
        Panel(
            "Drains a day, by why propagation ended",
            "Of the same rules.",
            HALF,
            "short",
            {
                "{{reason}}": "sum by (reason)"
                f" (max_over_time(workload:drainproxy_propagation_end:ended1d{{<labels>}}[{STEP}]))"
            },
        ),
    ],
}
