"""What is injected is what Kubernetes takes, also where it is strict."""

from __future__ import annotations

import pytest

from tests.chart.standards import assert_valid, breaches
from tests.injector.ways import by_webhook
from tests.injector.wishes import TABLE

INJECTED = [row for row in TABLE if row.result == "injected"]


@pytest.mark.parametrize("row", INJECTED, ids=[row.id for row in INJECTED])
def test_kubernetes_takes_it(row):
    """Every injected pod is valid for the oldest, a middle and the newest version, and ours is restricted."""
    pod, _ = by_webhook(row)
    assert_valid([pod])
    assert breaches(pod["spec"], ours="drainproxy") == (
        ["drainproxy: hostPort"] if row.id == "a port of the node" else []
    )
