"""The soak in a few seconds: every kind of load and most faults, and nothing is left of them."""

from __future__ import annotations

from tests.chaos.ground import Ground
from tests.soak.run import FREE_BYTES, soaked


async def test_a_few_seconds_of_everything_leave_nothing_behind():
    """Nothing is lost, doubled or told an untruth; tasks, descriptors, objects and memory are as before."""
    async with Ground("uvloop", short=True) as ground:
        result = await soaked(ground, 8.0, rate=2.0, say=lambda _: None)
    assert not result.lost, result.callers.failures
    assert not result.excess
    assert result.dirty[1] <= result.dirty[0] + FREE_BYTES
    assert all(in_use > 1 << 20 for _, in_use in result.samples)
    assert all(tally.sent for tally in result.callers.kinds.values())
