"""A cluster in which the test's pods run as real processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.kubelet.cluster import Cluster, cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def rbac() -> str:
    """What the pods' ServiceAccount may do."""
    return "slices"


@pytest.fixture
async def town(rbac: str) -> AsyncIterator[Cluster]:
    """The cluster, in which no pod is alone. At its end no sidecar may have logged a defect."""
    async with cluster(rbac=rbac) as town:
        town.neighbour()
        yield town
        sidecars = [each for pod in town.kubelet.pods for each in pod.containers if each.name == "drainproxy"]
        complaints = [line for each in sidecars for line in each.lines if line["event"] in {"defect", "text"}]
    assert not complaints, f"a sidecar complained: {complaints}"
