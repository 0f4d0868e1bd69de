"""Writes the chart's Grafana dashboard from the table below: `python helm/dashboard.py`.

A panel is a title, what it says to a person who was woken by it, a unit and its queries. tests/chart compares
the file with the table, and puts every query to a real Prometheus.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parent / "drainproxy" / "dashboards" / "drainproxy.json"

CALLERS = {
    "ingress-nginx": 'sum(rate(nginx_ingress_controller_requests{status=~"5.."}[5m]))',
    "Envoy": 'sum(rate(envoy_cluster_upstream_rq_xx{envoy_response_code_class="5"}[5m]))',
    "Istio": 'sum(rate(istio_requests_total{response_code=~"5.."}[5m]))',
    "ALB (CloudWatch exporter)": "sum(aws_applicationelb_httpcode_elb_5_xx_count_sum) / 60",
}
"""What callers saw, by who counts it. A dead proxy cannot count its own losses. No commas: Grafana's rule."""

POD = 'namespace=~"$namespace", workload=~"$workload"'
FULL, HALF, THIRD = 24, 12, 8


class Panel(NamedTuple):
    """`queries`: legend -> PromQL, in which <labels> stands for what every selector begins with."""

    title: str
    about: str
    width: int
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"


def rate(metric: str, by: str, more: str = "") -> str:
    """Return a per-second rate summed by one label."""
    return f"sum by ({by}) (rate({metric}{{<labels>{more}}}[$__rate_interval]))"


def grown(metric: str, by: str, more: str = "") -> str:
    """Return how much a counter grew in the panel's interval, by some labels."""
    return f"sum by ({by}) (increase({metric}{{<labels>{more}}}[$__rate_interval]))"


def quantile(share: float, metric: str) -> str:
    """Return a quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', 'le')})"


ROWS: dict[str, list[Panel]] = {
    "What callers saw": [
        Panel(
            "5xx answers seen in front of the pods",
            "Counted by the balancer or ingress chosen above. If this rises in a rollout, requests were lost,"
            " whatever the pods say of themselves.",
            HALF,
            "reqps",
            {"5xx": "$caller"},
        ),
        Panel(
            "Requests cut, timed out or lost by draining pods",
            "0 is the only good number.",
            HALF,
            "short",
            {
                "{{workload}} {{outcome}}": grown(
                    "drainproxy_drain_requests_total", "workload, outcome", ', outcome=~"timed_out|cut|lost"'
                )
            },
        ),
    ],
    "Drains": [
        Panel(
            "Pods by phase",
            "Steps down in ready and up in propagating are rollouts.",
            HALF,
            "short",
            {"{{phase}}": "sum by (phase) (drainproxy_phase{<labels>})"},
        ),
        Panel(
            "Requests ended since their drain began",
            "finished is work that a bare application would have dropped.",
            HALF,
            "short",
            {"{{outcome}}": grown("drainproxy_drain_requests_total", "outcome")},
        ),
        Panel(
            "Why propagation ended",
            "max: the cluster had not forgotten the pod yet. alone: no successor was ready in time.",
            THIRD,
            "short",
            {"{{reason}}": grown("drainproxy_propagation_end_total", "reason")},
        ),
        Panel(
            "Age of late arrivals, beside how long pods waited",
            "Late arrivals that are older than the wait are requests that came to a pod that was gone.",
            THIRD,
            "s",
            {
                "p50 of late arrivals": quantile(0.5, "drainproxy_late_connection_age_seconds"),
                "p99 of late arrivals": quantile(0.99, "drainproxy_late_connection_age_seconds"),
                "shortest wait": 'min(drainproxy_phase_duration_seconds{<labels>, phase="propagating"}'
                ' and on (namespace, pod) drainproxy_phase{<labels>, phase="drained"} == 1)',
                "slices flipped after": "max(drainproxy_endpoint_flip_seconds{<labels>})",
            },
        ),
        Panel(
            "Late arrivals",
            "After the drain: requests that came when the pod was ready to go. Above 0, raise propagation.",
            THIRD,
            "short",
            {
                "late": grown("drainproxy_late_requests_total", "workload"),
                "after the drain": grown("drainproxy_after_drained_total", "workload"),
            },
        ),
        Panel(
            "Grace left over",
            "Always large: terminationGracePeriodSeconds may be shorter. 0: the deadline cut.",
            THIRD,
            "s",
            {
                "least": "min by (workload) (drainproxy_drain_unused_seconds{<labels>}"
                ' and on (namespace, pod) drainproxy_phase{<labels>, phase="drained"} == 1)'
            },
        ),
        Panel(
            "Time left until the deadline",
            "Of the pod that is nearest to it.",
            THIRD,
            "s",
            {"{{pod}}": "drainproxy_drain_deadline_seconds{<labels>} > 0"},
        ),
        Panel(
            "Tunnels and event streams ended since their drain began",
            "told_to_leave: they got an end, and go on elsewhere. finished: they ended by themselves.",
            THIRD,
            "short",
            {"{{outcome}}": grown("drainproxy_drain_tunnels_total", "outcome")},
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
                "held": "sum(drainproxy_requests_held{<labels>})",
                "handed on": "sum(rate(drainproxy_handoff_total{<labels>}[$__rate_interval]))",
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
                "{{pod}}": "sum by (pod) (increase(kube_pod_container_status_restarts_total"
                '{namespace=~"$namespace", container="drainproxy"}[1h])'
                " or increase(kube_pod_init_container_status_restarts_total"
                '{namespace=~"$namespace", container="drainproxy"}[1h]))'
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
}


def dashboard() -> dict[str, Any]:
    """Return Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "gridPos": _place(0, top, FULL, 1), "panels": []})
        top, left = top + 1, 0
        for panel in row:
            if left + panel.width > FULL:
                top, left = top + 8, 0
            panels.append(_panel(panel, _place(left, top, panel.width, 8)))
            left += panel.width
        top += 8
    for number, each in enumerate(panels, 1):
        each["id"] = number
    return {
        "uid": "drainproxy",
        "title": "drainproxy",
        "tags": ["drainproxy"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": panels,
    }


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": {"type": "prometheus", "uid": "$datasource"},
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": query.replace("<labels>", POD), "legendFormat": legend}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus"}
    callers = {
        "name": "caller",
        "label": "callers' side",
        "type": "custom",
        "query": ", ".join(f"{name} : {query}" for name, query in CALLERS.items()),
    }
    return [
        source,
        _series("namespace", "label_values(drainproxy_phase, namespace)"),
        _series("workload", 'label_values(drainproxy_phase{namespace=~"$namespace"}, workload)'),
        callers,
    ]


def _series(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "$datasource"},
        "query": query,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def text() -> str:
    """Return the file's contents."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text(), "utf-8")
    sys.stdout.write(f"{FILE.name}: written\n")
