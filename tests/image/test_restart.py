"""The sidecar is killed in a real container under load: what is lost is what docs/reliability.md says.

`make image-test` runs it, after `make image`.
"""

from __future__ import annotations

import pytest

from tests.image.callers import CALLERS
from tests.image.engine import engine
from tests.image.restart import CRASHES, crash

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]
IN_FLIGHT = {"truncated", "reset", "closed"}


async def test_a_crash_costs_what_is_in_flight_and_refuses_until_it_is_back():
    """Podman starts the container again; answers are whole or visibly broken, and all are served after it."""
    engine("podman")
    called = await crash("container")
    kinds = called["kinds"]
    assert set(called["statuses"]) == {"200"}, called
    assert sum(count for kind, count in kinds.items() if kind in IN_FLIGHT) <= CRASHES * 2 * CALLERS, called
    assert set(kinds) <= {*IN_FLIGHT, "refused"}, called
    assert called["requests"] > called["lost"] > 0


async def test_a_socket_that_outlives_the_process_refuses_nobody():
    """Decision 0026: with a parent nobody is refused, and what is in flight is lost all the same."""
    engine("podman")
    called = await crash("small")
    assert called["kinds"].get("refused", 0) == 0, called
    assert called["lost"] > 0
    assert called["parent"] < 6 * 2**20
