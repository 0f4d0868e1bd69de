"""Which pod this is, and which rows are its own."""

from __future__ import annotations

import pytest

from drainproxy import config
from drainproxy.kube.identity import identity, place, workload_of
from drainproxy.lifecycle.report import Place

WHOLE = {
    "DRAINPROXY_POD_NAME": "web-1",
    "DRAINPROXY_POD_NAMESPACE": "shop",
    "DRAINPROXY_POD_UID": "u-1",
    "DRAINPROXY_NODE_NAME": "node-a",
}


def known(**env: str):
    """The identity that the Downward API's environment makes."""
    return identity(config.load(env).kube)


def test_the_downward_api_says_who_we_are():
    """Its fields come as settings, so that one table documents them."""
    me = known(**WHOLE)
    assert (me.namespace, me.name, me.uid, me.node) == ("shop", "web-1", "u-1", "node-a")


@pytest.mark.parametrize("missing", [("NAMESPACE",), ("NAME", "UID")])
def test_a_pod_that_does_not_know_itself_asks_nothing(missing):
    """Without a namespace there is no path to ask, without name and UID no row is ours."""
    assert known(**{key: value for key, value in WHOLE.items() if not key.endswith(missing)}) is None


def test_a_row_is_ours_by_its_uid():
    """A StatefulSet's next pod has the name of this one."""
    me = known(**WHOLE)
    assert me.is_target({"kind": "Pod", "name": "web-1", "uid": "u-1"})
    assert not me.is_target({"kind": "Pod", "name": "web-1", "uid": "u-2"})
    assert not me.is_target({})


def test_without_a_uid_a_row_is_ours_by_its_name():
    """The name is better than nothing, and only a pod's."""
    me = known(**{key: value for key, value in WHOLE.items() if not key.endswith("UID")})
    assert me.is_target({"kind": "Pod", "name": "web-1", "uid": "u-1"})
    assert not me.is_target({"kind": "Node", "name": "web-1"})


@pytest.mark.parametrize(
    ("name", "workload"),
    [
        ("web-5d4f7c9b8-x2x9k", "web"),
        ("shop-web-5d4f7c9b84-x2x9k", "shop-web"),
        ("web-0", "web"),
        ("db-main-12", "db-main"),
        ("agent-x2x9k", "agent"),
        ("log-agent-x2x9k", "log-agent"),
        ("debug", "debug"),
        ("my-pod", "my-pod"),
        ("", ""),
    ],
)
def test_a_workload_is_what_is_left_of_a_pods_name(name, workload):
    """Of a Deployment's pod, a StatefulSet's, a DaemonSet's, and of one that somebody named."""
    assert workload_of(name) == workload


def test_a_report_is_from_where_the_pod_was_told_it_is():
    """The setting counts more than the name; a pod that was told nothing says nothing."""
    told = config.load(WHOLE).kube
    assert place(told) == Place(pod="web-1", namespace="shop", node="node-a", workload="web")
    named = config.load({**WHOLE, "DRAINPROXY_WORKLOAD": "shop-api"}).kube
    assert place(named).workload == "shop-api"
    assert place(config.load({}).kube).fields() == {}
