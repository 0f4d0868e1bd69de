"""What scrapes and alerts, in the words of each operator: one set of rules, one set of labels."""

from __future__ import annotations

import pytest

from tests.chart.rendering import documents, one

ALL = {
    "injection": {"mode": "webhook"},
    "monitoring": {
        "podLabels": ["team", "example.com/cost-center"],
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True, "classes": {"batch": {"requestsLost": 5}}},
        "webhook": {"enabled": True},
    },
}
RULES = {"prometheus": "PrometheusRule", "victoriametrics": "VMRule", "gmp": "ClusterRules"}
PODS = {"prometheus": "PodMonitor", "victoriametrics": "VMPodScrape", "gmp": "ClusterPodMonitoring"}
SERVICES = {"prometheus": "ServiceMonitor", "victoriametrics": "VMServiceScrape"}


def values(**monitoring):
    """All that can be had, with some of it in other words."""
    return {**ALL, "monitoring": {**ALL["monitoring"], **monitoring}}


@pytest.mark.parametrize("kind", RULES)
def test_rules_are_the_same_whoever_evaluates_them(kind):
    """Three kinds of object, one list."""
    (own,) = one(documents(values(kind=kind)), RULES[kind])["spec"]["groups"]
    (usual,) = one(documents(values()), "PrometheusRule")["spec"]["groups"]
    assert own["rules"] == usual["rules"]


@pytest.mark.parametrize("seconds", [1, 15, 30, 60])
@pytest.mark.parametrize("kind", PODS)
def test_pods_and_webhook_are_scraped_as_often_as_is_said(kind, seconds):
    """Up to once a minute, which `metrics_push` makes safe."""
    found = documents(values(kind=kind, podMonitor={"enabled": True, "intervalSeconds": seconds}))
    kinds = {PODS[kind], "PodMonitoring"}
    scrapes = {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] in kinds}
    assert set(scrapes) == {"drainproxy", "drainproxy-webhook"}
    for spec in scrapes.values():
        (endpoint,) = spec.get("podMetricsEndpoints") or spec["endpoints"]
        assert endpoint["interval"] == f"{seconds}s"


@pytest.mark.parametrize("kind", PODS)
def test_pods_are_scraped_with_the_labels_that_rules_and_dashboard_ask_for(kind):
    """workload, class, revision, and those that the values name."""
    found = one(documents(values(kind=kind)), PODS[kind], "drainproxy")
    assert found["spec"]["selector"]["matchLabels"] == {"drainproxy.io/injected": "true"}
    named = {"rev", "alerts", "team", "example_com_cost_center"}
    if kind == "gmp":
        (endpoint,) = found["spec"]["endpoints"]
        labels = found["spec"]["targetLabels"]
        assert {each["to"] for each in labels["fromPod"]} == named
        assert {"namespace", "pod", "top_level_controller_name"} <= set(labels["metadata"])
        assert endpoint["metricRelabeling"] == [
            {"sourceLabels": ["top_level_controller_name"], "targetLabel": "workload"}
        ]
        assert "namespace" not in found["metadata"]
    else:
        (endpoint,) = found["spec"]["podMetricsEndpoints"]
        relabelings = endpoint["relabelConfigs" if kind == "victoriametrics" else "relabelings"]
        targets = [each["targetLabel"] for each in relabelings]
        assert set(targets) == named | {"workload"}
        sources = {each["targetLabel"]: each["sourceLabels"][-1] for each in relabelings}
        assert sources["example_com_cost_center"] == "__meta_kubernetes_pod_label_example_com_cost_center"
        assert found["spec"]["namespaceSelector"] == {"any": True}
    assert (endpoint["port"], endpoint["path"], endpoint["interval"]) == ("drain-admin", "/metrics", "10s")


@pytest.mark.parametrize("kind", PODS)
def test_some_namespaces_are_scraped_where_they_are_named(kind):
    """Google's has no selector of namespaces: an object in each."""
    found = documents(values(kind=kind, podMonitor={"enabled": True, "namespaces": ["shop", "till"]}))
    if kind == "gmp":
        own = [
            each
            for each in found
            if each["metadata"]["name"] == "drainproxy" and "Monitoring" in each["kind"]
        ]
        assert [(each["kind"], each["metadata"]["namespace"]) for each in own] == [
            ("PodMonitoring", "shop"), ("PodMonitoring", "till"),
        ]  # fmt: skip
        assert all("namespace" not in each["spec"]["targetLabels"]["metadata"] for each in own)
    else:
        spec = one(found, PODS[kind], "drainproxy")["spec"]
        assert spec["namespaceSelector"] == {"matchNames": ["shop", "till"]}


@pytest.mark.parametrize("kind", PODS)
@pytest.mark.parametrize("by", ["pods", "service"])
def test_the_webhook_is_scraped_by_its_pods_or_its_service(kind, by):
    """What is selected is there, with the port that is named."""
    found = documents(values(kind=kind, webhook={"enabled": True, "by": by}))
    deployment, service = one(found, "Deployment"), one(found, "Service")
    if by == "service" and kind in SERVICES:
        spec = one(found, SERVICES[kind], "drainproxy-webhook")["spec"]
        (endpoint,) = spec["endpoints"]
        carried = service["metadata"]["labels"]
        assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
    else:
        scrape = "PodMonitoring" if kind == "gmp" else PODS[kind]
        spec = one(found, scrape, "drainproxy-webhook")["spec"]
        (endpoint,) = spec.get("endpoints") or spec["podMetricsEndpoints"]
        template = deployment["spec"]["template"]
        carried = template["metadata"]["labels"]
        ports = template["spec"]["containers"][0]["ports"]
        assert endpoint["port"] in {each["name"] for each in ports}
    assert spec["selector"]["matchLabels"].items() <= carried.items()
    if kind != "gmp":
        assert spec["namespaceSelector"] == {"matchNames": ["drainproxy-system"]}


def test_nothing_scrapes_a_webhook_that_is_not_there():
    """A policy injects, and has no process."""
    found = documents({**values(), "injection": {"mode": "none"}})
    assert [each["metadata"]["name"] for each in found if each["kind"] == "PodMonitor"] == ["drainproxy"]
