"""Each real server that is installed, in short: nobody waits for a worker that a kept connection holds."""

from __future__ import annotations

import pytest

from tests.field.load import Felt
from tests.field.servers import Server, servers
from tests.field.trial import SHORT, Size, tried

MOST_CONNECTS = 60.0
"""For 100 requests to an event loop; one each where none is kept."""


def called(server: Server) -> str:
    """Its name in the test's."""
    return server.name.split(",")[0].replace(" ", "-")


@pytest.mark.parametrize("server", servers(), ids=called)
async def test_nobody_is_lost_behind_it_who_is_not_lost_without(server):
    """Requests and the application's own probes: kept connections idle for longer than anybody waits."""
    if missing := server.missing():
        pytest.skip(f"not here: {missing}")
    result = await tried(server, SHORT, upstream_idle="10m")
    for side in (result.behind, result.bare):
        assert (side.steady.failed, side.bursts.failed) == (0, 0)
        assert side.steady.count > 20
        # One may be slow on a busy machine; held by a kept connection, every one would be lost.
        assert side.probes.failed <= 1
    if server.loop:
        assert result.connects < MOST_CONNECTS


def test_quantiles_are_of_what_was_answered():
    """What failed has no time."""
    felt = Felt([0.001 * number for number in range(1, 101)], failed=3)
    assert [round(felt.quantile_ms(share)) for share in (0.5, 0.99, 1)] == [51, 100, 100]
    assert felt.count == 103
    assert Size().rounds > SHORT.rounds
