"""The short form of `make rollout`: real pods behind Envoy, one lag, half a minute."""

from __future__ import annotations

import pytest

from tests.rollout import rows, table, verdict
from tests.rollout.run import play_all

LAG_S = 0.5
MIN_REQUESTS = 600


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_rollout_loses_nothing_behind_drainproxy_and_something_without_it():
    """Both wirings, with the cluster's word and without, beside the bare application."""
    run = await play_all(
        rows.QUICK, [LAG_S], rollouts=1, warm_s=1.0, min_requests=MIN_REQUESTS, say=lambda _: None
    )
    results = run.results
    found = verdict.faults(results, min_requests=MIN_REQUESTS)
    assert not found, "\n".join([*found, *table.losses(results), table.table(results)])
    reasons = {
        result.row.name: {each.report.get("propagation_ended") for each in result.ended} for result in results
    }
    assert reasons == {"bare": {None}, "drainproxy": {"slices_quiet"}, "no API": {"quiet"}}
