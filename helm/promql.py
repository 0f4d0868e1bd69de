"""The dashboard's queries. <labels> stands for what every selector begins with. Called by panels.py."""

from __future__ import annotations

POD = 'cluster=~"$cluster", namespace=~"$namespace", workload=~"$workload"'
BY = "cluster, namespace, workload, pod"
RANGE = "$__range"
STEP = "$__rate_interval"

ISTIO = 'destination_workload_namespace=~"$namespace", destination_workload=~"$workload"'
LINKERD = 'dst_namespace=~"$namespace", dst_deployment=~"$workload"'
CALLERS = {
    "ALB": ("aws_applicationelb_httpcode_elb_5_xx_count_sum", "", ""),
    "ingress-nginx": (
        "nginx_ingress_controller_requests",
        'status=~"5..", exported_namespace=~"$namespace"',
        "rate",
    ),
    "Envoy Gateway and Contour": (
        "envoy_cluster_upstream_rq_xx",
        'envoy_response_code_class="5", envoy_cluster_name=~"(.*[^a-z0-9-])?($namespace)[^a-z0-9-].*"',
        "rate",
    ),
    "Istio": ("istio_requests_total", f'response_code=~"5..", reporter!="destination", {ISTIO}', "rate"),
    "Linkerd": ("response_total", f'direction="outbound", classification="failure", {LINKERD}', "rate"),
    "Traefik": ("traefik_service_requests_total", 'code=~"5..", service=~"($namespace)-.*"', "rate"),
    "HAProxy": ("haproxy_backend_http_responses_total", 'code="5xx", proxy=~"($namespace)_.*"', "rate"),
}
"""Who counts what callers saw: metric, which of its series, and whether it is a counter. A dead proxy cannot
count its own losses. CloudWatch's exporters give a sum a minute, of a balancer and not of a workload."""


def rate(metric: str, by: str, more: str = "") -> str:
    """Return a per-second rate summed by one label."""
    return f"sum by ({by}) (rate({metric}{{<labels>{more}}}[{STEP}]))"


def grown(metric: str, by: str, more: str = "") -> str:
    """Return how much a counter of living pods grew in the panel's interval, by some labels."""
    return f"sum by ({by}) (increase({metric}{{<labels>{more}}}[{STEP}]))"


def quantile(share: float, metric: str) -> str:
    """Return a quantile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', 'le')})"


def ended(name: str, by: str = "", more: str = "", within: str = STEP) -> str:
    """Return what became of each pod, by `by` too: the larger of what it pushed and what was scraped of it.

    Over a whole range a series may have one point alone, and what is asked is its largest. Per interval it is
    how much it rose. helm/drainproxy/alerts/rules.yaml says why neither counts twice.
    """
    keys = f"{BY}, {by}" if by else BY
    scraped = f"drainproxy_{name}_total{{<labels>{more}}}[{within}]"
    told = f"max_over_time({scraped})" + (f" - min_over_time({scraped})" if within == STEP else "")
    pushed = f"max_over_time(drainproxy_final_{name}{{<labels>{more}}}[{within}])"
    return (
        f"max by ({keys}) (label_replace(sum by ({keys}) ({pushed}), 'told', 'pushed', '', '')"
        f" or sum by ({keys}) ({told}))"
    )


def last(name: str, within: str = STEP, more: str = "") -> str:
    """Return a gauge of pods that have drained, as it was when it was seen last."""
    scraped = f"last_over_time(drainproxy_{name}{{<labels>{more}}}[{within}])"
    over = f'max_over_time(drainproxy_phase{{<labels>, phase="drained"}}[{within}]) == 1'
    pushed = f"max_over_time(drainproxy_final_{name}{{<labels>{more}}}[{within}])"
    return f"max by ({BY}) ({pushed} or {scraped} and on ({BY}) {over})"


def total(outcome: str) -> str:
    """Return requests and tunnels of one outcome, in the whole range."""
    more = f', outcome="{outcome}"'
    tunnels = f"sum({ended('drain_tunnels', 'outcome', more, RANGE)})"
    if outcome == "told_to_leave":
        return tunnels
    return f"sum({ended('drain_requests', 'outcome', more, RANGE)}) + {tunnels}"


def by_callers(function: str, within: str) -> dict[str, str]:
    """Return a query for each who counts, of which `$caller` chooses."""
    found = {}
    for name, (metric, more, counter) in CALLERS.items():
        selector = f'{{__name__="{metric}", __name__=~"$caller", cluster=~"$cluster"{more and ", " + more}}}'
        if counter:
            found[name] = f"sum({function}({selector}[{within}]))"
        elif function == "rate":
            found[name] = f"sum({selector}) / 60"
        else:
            found[name] = f"sum(sum_over_time({selector}[{within}]))"
    return found


def causes(within: str) -> str:
    """Return the cause of each pod's end."""
    scraped = f"max_over_time(drainproxy_termination_cause_info{{<labels>}}[{within}])"
    pushed = f"max_over_time(drainproxy_final_termination_cause_info{{<labels>}}[{within}])"
    return f"max by ({BY}, cause) ({pushed} or {scraped}) == 1"


SIDECAR = '{cluster=~"$cluster", namespace=~"$namespace", pod=~"($workload)-.*", container="drainproxy"}'
"""Of kube-state-metrics, which knows no workload: a pod's name begins with it."""
HOOK = '{cluster=~"$cluster"}'
DRAINED = f"({ended('propagation_end', 'reason', '', RANGE)} > 0)"
PUSHED_AT = f"max_over_time(timestamp(drainproxy_final_drain_unused_seconds{{<labels>}})[{RANGE}:1m])"
STARTED_AT = f"max by ({BY}) (max_over_time(process_start_time_seconds{{<labels>}}[{RANGE}]))"
LIVED = (
    f'sum by ({BY}) (max_over_time(drainproxy_phase_duration_seconds{{<labels>, phase!="drained"}}[{RANGE}]))'
)
PHASES = '{<labels>, phase=~"propagating|draining"}'
WAITED = last("phase_duration_seconds", more=', phase="propagating"')
LOST = ', outcome=~"timed_out|cut|lost"'

TABLE = {
    # In milliseconds, as Grafana writes a date: when it pushed, or its start and its phases.
    "ended": f"(max by ({BY}) ({PUSHED_AT}) or {STARTED_AT} + {LIVED} and on ({BY}) {DRAINED}) * 1000",
    "cause": causes(RANGE),
    "propagation ended by": f"max by ({BY}, reason) ({DRAINED})",
    "seconds": f"sum by ({BY}) (max by ({BY}, phase) (max_over_time(drainproxy_final_phase_duration_seconds"
    f"{PHASES}[{RANGE}]) or max_over_time(drainproxy_phase_duration_seconds{PHASES}[{RANGE}])))"
    f" and on ({BY}) {DRAINED}",
    "lost": f"sum by ({BY}) ({ended('drain_requests', 'outcome', LOST, RANGE)})"
    f" + sum by ({BY}) ({ended('drain_tunnels', 'outcome', LOST, RANGE)}) and on ({BY}) {DRAINED}",
}
"""Column -> query: what became of each pod that drained."""
