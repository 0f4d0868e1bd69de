"""The open loop: a slow service does not slow the probe down."""

import asyncio

from drainproxy.proof.client import Request
from drainproxy.proof.outcomes import Kind, Outcome
from drainproxy.proof.probe.pace import Pace
from drainproxy.proof.probe.plan import Plan
from tests.proof.scripted import OK, Conversation, closed_port, for_ever_ok, serve, silent


def plan_of(address: tuple[str, int], *, connections: str = "mix", **more: float) -> Plan:
    numbers = {"rate": 500.0, "duration_s": 0.04, "timeout_s": 10.0, **more}
    return Plan(
        url="http://test/",
        address=address,
        tls=None,
        request=Request(method="GET", path="/", host="test"),
        connections=connections,
        command=(),
        **numbers,
    )


async def paced(plan: Plan, losses: list[Outcome] | None = None, stop: asyncio.Event | None = None) -> Pace:
    began_at = asyncio.get_running_loop().time()
    pace = Pace(plan, began_at=began_at)
    pace.on_loss = (losses if losses is not None else []).append
    await pace.run(stop or asyncio.Event())
    return pace


async def test_requests_leave_on_time_while_none_is_answered():
    """All 20 requests are inside the service before the first one is answered."""
    inside = 0
    all_in = asyncio.Event()

    async def script(talk: Conversation) -> None:
        nonlocal inside
        await talk.head()
        inside += 1
        if inside == 20:
            all_in.set()
        await all_in.wait()
        talk.say(OK)
        await talk.client_left()

    async with serve(script) as address:
        pace = await paced(plan_of(address))
    assert (pace.tally.requests, pace.tally.lost, pace.held_back) == (20, 0, 0)


async def test_what_is_in_flight_is_bounded():
    """Never more than a caller's patience is worth; what does not fit is counted as held back."""
    async with serve(silent) as address:
        pace = await paced(plan_of(address, rate=2000.0, duration_s=0.02, timeout_s=0.001))
    assert pace._max_in_flight == 3
    assert pace.tally.requests + pace.held_back == 40
    assert pace.tally.by_kind == {Kind.TIMEOUT: pace.tally.requests}
    assert pace.in_flight == 0


async def test_kept_connections_are_reused_and_new_ones_are_not():
    """Half of a mix dials each time, the other half as often as it must."""
    dialled = {"keep-alive": 0, "new": 0}
    for habit in dialled:

        async def script(talk: Conversation, habit: str = habit) -> None:
            dialled[habit] += 1
            await for_ever_ok(talk)

        async with serve(script) as address:
            pace = await paced(plan_of(address, connections=habit, rate=100.0, duration_s=0.1))
        assert pace.tally.requests == 10
    assert dialled["new"] == 10
    assert dialled["keep-alive"] < 10


async def test_every_loss_is_told():
    """A refusal is told when it happens, not at the end only."""
    losses: list[Outcome] = []
    pace = await paced(plan_of(closed_port()), losses)
    assert [loss.kind for loss in losses] == [Kind.REFUSED] * 20
    assert pace.tally.lost == 20


async def test_a_stop_ends_the_sending_at_once():
    """Nothing is sent after it, and what was sent is waited for."""
    stop = asyncio.Event()
    stop.set()
    async with serve(for_ever_ok) as address:
        pace = await paced(plan_of(address, duration_s=3600.0), stop=stop)
    assert pace.tally.requests == 0
