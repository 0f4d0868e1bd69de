"""Each alert fires when it should and is silent when it should be, in promtool's own test runner."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.monitoring.prometheus import alerts, needs_prometheus, promtool, rules

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_prometheus

TILL = {"namespace": "shop", "workload": "till"}
POD = 'namespace="shop",workload="till",pod="till-1"'
OTHER = 'namespace="shop",workload="till",pod="till-2"'
LABEL = 'namespace="shop",pod="till-1",label_drainproxy_io_inject="true"'
OURS = 'namespace="shop",pod="till-1",container="drainproxy"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Series by minutes, and what an alert makes of them. Without `says` it is silent."""

    alert: str
    why: str
    series: dict[str, str]
    """In promtool's notation: `0x3 2 stale` is 0 four times, 2, and then the pod has gone."""
    minute: int = 8
    says: str = ""
    labels: dict[str, str] = field(default_factory=lambda: TILL)
    above: dict[str, float] = field(default_factory=dict)
    """Thresholds of the chart's values."""


OUTCOMES = ("finished", "timed_out", "cut", "refused", "lost")


def ended(outcome: str, values: str, kind: str = "requests") -> dict[str, str]:
    """Every series of a pod's is there from its first scrape, at 0."""
    idle = " ".join(re.sub(r"^\d+", "0", each) for each in values.split())
    every = {
        f'drainproxy_drain_{of}_total{{{POD},outcome="{each}"}}': idle
        for of in ("requests", "tunnels")
        for each in OUTCOMES
    }
    return every | {f'drainproxy_drain_{kind}_total{{{POD},outcome="{outcome}"}}': values}


def drained(phase: str, unused: str) -> dict[str, str]:
    return {
        f'drainproxy_phase{{{POD},phase="drained"}}': phase,
        f"drainproxy_drain_unused_seconds{{{POD}}}": unused,
    }


def propagation(reason: str, values: str) -> dict[str, str]:
    return {f'drainproxy_propagation_end_total{{{POD},reason="{reason}"}}': values}


def late(values: str) -> dict[str, str]:
    return {f"drainproxy_late_requests_total{{{POD}}}": values}


def pod(name: str, values: str, labels: str = POD) -> dict[str, str]:
    return {f"drainproxy_{name}{{{labels}}}": values}


def restarts(kind: str, values: str) -> dict[str, str]:
    return {f"kube_pod_{kind}_status_restarts_total{{{OURS}}}": values}


def pushed(name: str, values: str, labels: str = POD) -> dict[str, str]:
    """What came by metrics_push: once, and nothing ends it."""
    return {f'drainproxy_final_{name}{{{labels},instance="6d5f",job="drainproxy"}}': values}


LOST = "2 requests and tunnels of shop/till were cut or lost in 10 minutes."
AROUND = "2 connections to shop/till go around drainproxy, and nothing drains them."
BARE = "1 pods in shop have the label drainproxy.io/inject=true and no drainproxy container."
BREAKER = "1 pods of shop/till turn callers away because their application refuses connections."
RESTARTED = "drainproxy in shop/till-1 restarted 1 times in 15 minutes."
PROBLEMS = "2 settings of shop/till contradict one another; the log and /status say which."

CASES = [
    # The pod has gone with its last scrape, and is heard all the same.
    Case(alert="RequestsLost", why="cut", series=ended("cut", "0x3 2 stale"), says=LOST, minute=6),
    Case(
        alert="RequestsLost", why="timed out", series=ended("timed_out", "0x3 2 stale"), says=LOST, minute=6
    ),
    Case(alert="RequestsLost", why="lost", series=ended("lost", "0x3 2 stale"), says=LOST, minute=6),
    Case(
        alert="RequestsLost",
        why="pushed, and never scraped",
        series=pushed("drain_requests", "_x4 2", f'{POD},outcome="cut"'),
        says=LOST,
        minute=6,
    ),
    Case(
        alert="RequestsLost",
        why="pushed, and scraped before it was all over",
        series=ended("cut", "0x3 1 stale") | pushed("drain_requests", "_x4 2", f'{POD},outcome="cut"'),
        says=LOST,
        minute=6,
    ),
    Case(
        alert="RequestsLost",
        why="one pod pushed, another was scraped",
        series=ended("cut", "0x3 1 stale")
        | pushed("drain_requests", "_x4 1", f'{OTHER},outcome="cut"')
        | pushed("drain_requests", "_x4 0", f'{POD},outcome="lost"'),
        says=LOST,
        minute=6,
    ),
    Case(
        alert="RequestsLost",
        why="two pods of one name, one after the other",
        series=ended("cut", "0x1 1 stale")
        | pushed("drain_requests", "_x2 1", f'{POD},outcome="cut"')
        | {f'drainproxy_final_drain_requests{{{POD},outcome="cut",instance="7e60"}}': "_x5 1"},
        says=LOST,
        minute=7,
    ),
    Case(
        alert="RequestsLost",
        why="pushed long ago",
        series=pushed("drain_requests", "_x4 2", f'{POD},outcome="cut"'),
        minute=16,
    ),
    Case(alert="RequestsLost", why="finished", series=ended("finished", "0x3 900x9")),
    Case(alert="RequestsLost", why="refused by policy", series=ended("refused", "0x3 3x9")),
    Case(alert="RequestsLost", why="long ago", series=ended("cut", "0x3 2x30"), minute=20),
    Case(
        alert="RequestsLost",
        why="a tunnel",
        series=ended("cut", "0x3 2 stale", kind="tunnels"),
        says=LOST,
        minute=6,
    ),
    Case(alert="RequestsLost", why="told to leave", series=ended("told_to_leave", "0x3 9x9", kind="tunnels")),
    Case(
        alert="Refused",
        why="in a drain",
        series=ended("refused", "0x3 3 stale"),
        says="3 requests and tunnels of shop/till were refused in drains in 10 minutes.",
        minute=6,
    ),
    Case(alert="Refused", why="allowed", series=ended("refused", "0x3 3 stale"), above={"refused": 5}),
    Case(alert="RequestsLost", why="allowed", series=ended("cut", "0x3 2x9"), above={"requestsLost": 5}),
    Case(
        alert="DrainEndedByDeadline",
        why="nothing left",
        series=drained("0x3 1 stale", "0x4 stale"),
        says="1 pods of shop/till were ended by the deadline in 10 minutes.",
    ),
    Case(
        alert="DrainEndedByDeadline",
        why="pushed, and never scraped",
        series=pushed("drain_unused_seconds", "_x4 0"),
        says="1 pods of shop/till were ended by the deadline in 10 minutes.",
    ),
    Case(
        alert="DrainEndedByDeadline",
        why="pushed and scraped",
        series=drained("0x3 1 stale", "0x4 stale") | pushed("drain_unused_seconds", "_x4 0"),
        says="1 pods of shop/till were ended by the deadline in 10 minutes.",
    ),
    Case(alert="DrainEndedByDeadline", why="time left", series=drained("0x3 1 stale", "0x3 12.5 stale")),
    Case(alert="DrainEndedByDeadline", why="never drained", series=drained("0x9", "0x9")),
    Case(
        alert="DrainEndedByDeadline",
        why="allowed",
        series=drained("0x3 1 stale", "0x4 stale"),
        above={"deadlineDrains": 1},
    ),
    Case(
        alert="PropagationCapped",
        why="half of them",
        series=propagation("max", "0x100 4x1000") | propagation("slices_quiet", "0x100 4x1000"),
        minute=600,
        says="50% of the drains of shop/till in a day stopped waiting because of propagation_max.",
    ),
    Case(
        alert="PropagationCapped",
        why="one of ten",
        series=propagation("max", "0x100 1x1000") | propagation("slices_quiet", "0x100 9x1000"),
        minute=600,
    ),
    Case(
        alert="PropagationCapped", why="too few to say", series=propagation("max", "0x100 2x1000"), minute=600
    ),
    Case(
        alert="PropagationCapped",
        why="no drain in a day",
        series=propagation("max", "7x1000") | propagation("quiet", "0x1000"),
        minute=600,
    ),
    Case(
        alert="LateRequests",
        why="until the cap",
        series=late("0x3 4 stale") | propagation("max", "0x3 1 stale"),
        minute=6,
        says="4 late requests reached shop/till in drains that propagation_max ended:"
        " some may have come after the pod had gone.",
    ),
    Case(
        alert="LateRequests",
        why="until it was quiet",
        series=late("0x3 4 stale") | propagation("max", "0x4 stale") | propagation("quiet", "0x3 1 stale"),
    ),
    Case(alert="LateRequests", why="none came", series=late("0x4 stale") | propagation("max", "0x3 1 stale")),
    Case(
        alert="LateRequests",
        why="pushed: until the cap",
        series=pushed("late_requests", "_x4 4") | pushed("propagation_end", "_x4 1", f'{POD},reason="max"'),
        minute=6,
        says="4 late requests reached shop/till in drains that propagation_max ended:"
        " some may have come after the pod had gone.",
    ),
    Case(
        alert="LeftTooEarly",
        why="asked again",
        series=pod("after_drained_total", "0x3 2 stale"),
        minute=6,
        says="2 requests reached pods of shop/till that had drained: those who came later were refused.",
    ),
    Case(alert="LeftTooEarly", why="never", series=pod("after_drained_total", "0x9")),
    Case(
        alert="NotInjected",
        why="bare for five minutes",
        series={f"kube_pod_labels{{{LABEL}}}": "1x9"},
        labels={"namespace": "shop"},
        says=BARE,
    ),
    Case(alert="NotInjected", why="only just", series={f"kube_pod_labels{{{LABEL}}}": "_x5 1x9"}),
    Case(
        alert="NotInjected",
        why="a native sidecar",
        series={f"kube_pod_labels{{{LABEL}}}": "1x9", f"kube_pod_init_container_info{{{OURS}}}": "1x9"},
    ),
    Case(
        alert="NotInjected",
        why="a plain sidecar",
        series={f"kube_pod_labels{{{LABEL}}}": "1x9", f"kube_pod_container_info{{{OURS}}}": "1x9"},
    ),
    Case(
        alert="NotInjected",
        why="it never asked",
        series={'kube_pod_labels{namespace="shop",pod="till-1",label_drainproxy_io_inject="false"}': "1x9"},
    ),
    Case(
        alert="Bypassed",
        why="two pods, one each",
        series=pod("upstream_bypass_connections", "1x9") | pod("upstream_bypass_connections", "1x9", OTHER),
        says=AROUND,
    ),
    Case(alert="Bypassed", why="one scrape", series=pod("upstream_bypass_connections", "0x5 3 0x9")),
    Case(
        alert="PermissionMissing",
        why="denied",
        series=pod("kubernetes_requests_total", "0x3 1x9", f'{POD},verb="read",result="denied"'),
        says="Pods of shop/till may not read EndpointSlices: their drains go by time and quiet alone.",
    ),
    Case(
        alert="PermissionMissing",
        why="the API is away",
        series=pod("kubernetes_requests_total", "0x3 5x9", f'{POD},verb="read",result="failed"'),
    ),
    Case(alert="BreakerOpen", why="for a minute", series=pod("breaker_open", "0x3 1x9"), says=BREAKER),
    Case(
        alert="BreakerOpen",
        why="gone from a pod that was ready",
        series=pod("upstream_up", "1x3 0x9") | pod("phase", "1x12", f'{POD},phase="ready"'),
        says=BREAKER,
    ),
    Case(
        alert="BreakerOpen",
        why="not there yet",
        series=pod("upstream_up", "0x12") | pod("phase", "0x12", f'{POD},phase="ready"'),
    ),
    Case(alert="BreakerOpen", why="closed again", series=pod("breaker_open", "0x3 1 0x9")),
    Case(
        alert="Restarted",
        why="a native sidecar",
        series=restarts("init_container", "0x3 1x9"),
        labels={"namespace": "shop", "pod": "till-1"},
        says=RESTARTED,
    ),
    Case(
        alert="Restarted",
        why="a plain sidecar",
        series=restarts("container", "0x3 1x9"),
        labels={"namespace": "shop", "pod": "till-1"},
        says=RESTARTED,
    ),
    Case(alert="Restarted", why="once upon a time", series=restarts("container", "3x20")),
    Case(
        alert="Restarted",
        why="another container",
        series={
            'kube_pod_container_status_restarts_total{namespace="shop",pod="x",container="app"}': "0+1x9"
        },
    ),
    Case(
        alert="ConfigProblems", why="as long as it runs", series=pod("config_problems", "2x9"), says=PROBLEMS
    ),
    Case(alert="ConfigProblems", why="none", series=pod("config_problems", "0x9")),
    Case(
        alert="CertificateExpires",
        why="in a week",
        series=pod("certificate_expiry_seconds", "604800x9", f'{POD},used_for="listener"'),
        says="A certificate in shop/till expires in 7d 0h 0m 0s.",
    ),
    Case(
        alert="CertificateExpires",
        why="in a month",
        series=pod("certificate_expiry_seconds", "2592000x9", f'{POD},used_for="listener"'),
    ),
    Case(
        alert="CertificateExpires",
        why="sooner is enough here",
        series=pod("certificate_expiry_seconds", "604800x9", f'{POD},used_for="listener"'),
        above={"certificateDays": 3},
    ),
]


GOOD = (
    ended("finished", "0x3 40 stale")
    | drained("0x3 1 stale", "0x3 12.5 stale")
    | propagation("max", "0x4 stale")
    | propagation("slices_quiet", "0x3 1 stale")
    | late("0x3 7 stale")
    | pod("after_drained_total", "0x4 stale")
    | {f"kube_pod_labels{{{LABEL}}}": "1x4 stale", f"kube_pod_init_container_info{{{OURS}}}": "1x4 stale"}
    | pod("upstream_bypass_connections", "0x4 stale")
    | pod("kubernetes_requests_total", "0x3 9 stale", f'{POD},verb="read",result="ok"')
    | pod("kubernetes_requests_total", "0x4 stale", f'{POD},verb="read",result="denied"')
    | pod("breaker_open", "0x4 stale")
    | pod("upstream_up", "1x4 stale")
    | pod("phase", "1x3 0 stale", f'{POD},phase="ready"')
    | restarts("init_container", "0x4 stale")
    | pod("config_problems", "0x4 stale")
    | pod("certificate_expiry_seconds", "2592000x4 stale", f'{POD},used_for="listener"')
)
"""A pod that ends well: callers came late, and all were served."""

CUT = (
    GOOD
    | ended("cut", "0x3 2 stale")
    | drained("0x3 1 stale", "0x4 stale")
    | propagation("max", "0x3 1 stale")
    | propagation("slices_quiet", "0x4 stale")
    | pod("after_drained_total", "0x3 2 stale")
    | {f'drainproxy_drain_requests_total{{{POD},outcome="refused"}}': "0x3 3 stale"}
)
"""One drain of which everything is true that can be: capped, late, refused, cut, out of time, asked again."""

RESOLVED: dict[str, tuple[dict[str, str], int, int]] = {
    "RequestsLost": (ended("cut", "0x3 2x30"), 6, 20),
    "Refused": (ended("refused", "0x3 2x30"), 6, 20),
    "DrainEndedByDeadline": (drained("0x3 1 stale", "0x4 stale"), 8, 20),
    "PropagationCapped": (propagation("max", "0x10 9x2000"), 20, 1500),
    "LateRequests": (late("0x3 4x30") | propagation("max", "0x3 1x30"), 6, 20),
    "LeftTooEarly": (pod("after_drained_total", "0x3 2x30"), 6, 20),
    "NotInjected": ({f"kube_pod_labels{{{LABEL}}}": "1x9 stale"}, 8, 11),
    "Bypassed": (pod("upstream_bypass_connections", "2x9 0x9"), 8, 11),
    "PermissionMissing": (
        pod("kubernetes_requests_total", "0x3 1x40", f'{POD},verb="read",result="denied"'),
        6,
        25,
    ),
    "BreakerOpen": (pod("breaker_open", "1x9 0x9"), 8, 11),
    "Restarted": (restarts("init_container", "0x3 1x40"), 6, 25),
    "ConfigProblems": (pod("config_problems", "2x9 0x9"), 8, 11),
    "CertificateExpires": (
        pod("certificate_expiry_seconds", "604800x9 7776000x9", f'{POD},used_for="listener"'),
        8,
        11,
    ),
}
"""What each alert fires on, when it does, and when it is over: the fault has passed and the series go on."""


def names() -> list[str]:
    return [each["alert"].removeprefix("Drainproxy") for each in alerts(rules())]


def fired(series: dict[str, str], minutes: list[int], directory: Path) -> dict[int, set[str]]:
    """Which alerts fire at which minute, as promtool tells where nothing is expected."""
    expected = [
        {"eval_time": f"{minute}m", "alertname": f"Drainproxy{name}", "exp_alerts": []}
        for minute in minutes
        for name in names()
    ]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": expected,
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": evaluated(max(minutes)), "tests": [test]}
    said = promtool(document, directory, rules())
    found: dict[int, set[str]] = {minute: set() for minute in minutes}
    for name, at in re.findall(r"alertname: Drainproxy(\w+), time: (\S+?),", said):
        found[minute_of(at)].add(name)
    return found


def evaluated(minutes: int) -> str:
    """How often rules are looked at: over hours, every minute of a day's window would be slow."""
    return "1m" if minutes < 100 else "10m"


def minute_of(duration: str) -> int:
    """Prometheus writes 90 minutes as 1h30m, and 20 as 20m."""
    return sum(
        int(number) * {"d": 1440, "h": 60, "m": 1}[unit]
        for number, unit in re.findall(r"(\d+)([dhm])", duration)
    )


def test_a_good_rollout_raises_nothing(tmp_path):
    """Neither while it is going on nor afterwards, however late its callers came."""
    minutes = [3, 4, 5, 6, 10, 15, 30, 60]
    assert fired(GOOD, minutes, tmp_path) == {minute: set() for minute in minutes}


def test_one_drain_that_was_cut_raises_one_page(tmp_path):
    """Whatever else is true of it. It is over after ten minutes, and nothing else is raised then."""
    assert fired(CUT, [*range(3, 30), 60], tmp_path) == {
        minute: {"RequestsLost"} if 4 <= minute < 14 else set() for minute in [*range(3, 30), 60]
    }


@pytest.mark.parametrize("name", RESOLVED)
def test_an_alert_resolves(name, tmp_path):
    """When the fault has passed it is silent again, with the pod still there where that can be."""
    series, fires, silent = RESOLVED[name]
    found = fired(series, [fires, silent], tmp_path)
    assert name in found[fires]
    assert found[silent] == set()


@pytest.mark.parametrize("case", CASES, ids=[f"{case.alert}: {case.why}" for case in CASES])
def test_alert(case, tmp_path):
    """It fires for this workload and in these words, or it does not fire."""
    file = rules(**case.above)
    name = f"Drainproxy{case.alert}"
    (rule,) = (each for each in alerts(file) if each["alert"] == name)
    fires = {
        "exp_labels": {**case.labels, **rule["labels"]},
        "exp_annotations": {**rule["annotations"], "description": case.says},
    }
    expected = {"eval_time": f"{case.minute}m", "alertname": name, "exp_alerts": [fires] * bool(case.says)}
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [expected],
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": evaluated(case.minute), "tests": [test]}
    said = promtool(document, tmp_path, file)
    assert not said, said


def test_every_alert_is_seen_both_ways():
    """An alert that nobody has seen fire, or be silent, is no alert."""
    every = {each["alert"].removeprefix("Drainproxy") for each in alerts(rules())}
    assert {case.alert for case in CASES if case.says} == every
    assert {case.alert for case in CASES if not case.says} == every
    assert set(RESOLVED) == every
