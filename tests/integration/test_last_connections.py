"""The very end: what has reached the kernel while the process stood still is answered before it leaves.

A sidecar with a CPU limit stands still for a tenth of a second at a time. SIGSTOP makes such a pause as long
as a test needs it: bytes and connections pile up in the kernel, and timers are due when it goes on.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.integration.application import Application
from tests.integration.scene import OK, OK_CLOSE, command, get, held, stopped
from tests.support.message import Ending
from tests.support.upstream import answering

CROWD = 60


async def ask_all(clients, path: str) -> None:
    """Send a request on every connection."""
    for client in clients:
        await client.send(get(path))


async def answers(clients) -> Counter[bytes]:
    """Read every connection's answer; count the different ones. What did not come whole is its ending."""
    found: Counter[bytes] = Counter()
    for answer in await asyncio.gather(*(client.final() for client in clients)):
        found[answer.raw if answer.ending is Ending.COMPLETE else answer.ending.encode()] += 1
    return found


async def crowd(proxy, count: int = CROWD):
    """Connect many clients."""
    return [await proxy.client() for _ in range(count)]


async def used_crowd(proxy, count: int = CROWD):
    """Connect many clients and let each have an answer before."""
    clients = await crowd(proxy, count)
    await ask_all(clients, "/before")
    assert await answers(clients) == {OK: count}
    return clients


async def test_connections_that_the_kernel_completed_during_a_pause_are_answered(start):
    """`settle` runs out while the process stands still and new clients connect and send."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, settle="400ms")
        proxy.signal()
        await proxy.line("phase", phase="draining")
        async with stopped(proxy):
            clients = await crowd(proxy)
            await ask_all(clients, "/new")
            await asyncio.sleep(0.45)
        assert await answers(clients) == {OK_CLOSE: CROWD}
        assert await proxy.exit_code() == 0


async def test_requests_on_idle_connections_during_a_pause_are_answered(start):
    """`settle` runs out while the process stands still and its keep-alive connections are used again."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, settle="400ms")
        clients = await used_crowd(proxy)
        proxy.signal()
        await proxy.line("phase", phase="draining")
        async with stopped(proxy):
            await ask_all(clients, "/again")
            await asyncio.sleep(0.45)
        assert await answers(clients) == {OK_CLOSE: CROWD}
        assert await proxy.exit_code() == 0


async def test_requests_that_arrive_together_with_the_signal_to_leave_are_answered(start):
    """A drained native sidecar leaves at SIGTERM: what idle connections have sent by then comes first."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream)
        clients = await used_crowd(proxy)
        assert (await command(proxy, "drain", "--prestop"))[0] == 0
        await proxy.line("phase", phase="drained")
        async with stopped(proxy):
            await ask_all(clients, "/at-once")
            proxy.signal()
        assert await answers(clients) == {OK_CLOSE: CROWD}
        assert await proxy.exit_code() == 0


async def test_connections_that_arrive_together_with_the_signal_to_leave_are_answered(start):
    """They are complete in the kernel, with their requests, when the process learns that it may leave."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream)
        assert (await command(proxy, "drain", "--prestop"))[0] == 0
        await proxy.line("phase", phase="drained")
        async with stopped(proxy):
            clients = await crowd(proxy)
            await ask_all(clients, "/at-once")
            proxy.signal()
        assert await answers(clients) == {OK_CLOSE: CROWD}
        assert await proxy.exit_code() == 0


async def test_a_request_that_follows_its_connection_closely_is_answered(start):
    """Connections complete during the pause and speak just after it: within `settle` that is in time."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, settle="600ms")
        assert (await command(proxy, "drain", "--prestop"))[0] == 0
        await proxy.line("phase", phase="drained")
        async with stopped(proxy):
            clients = await crowd(proxy)
            proxy.signal()
        await ask_all(clients, "/soon")
        assert await answers(clients) == {OK_CLOSE: CROWD}
        assert await proxy.exit_code() == 0


async def test_what_was_admitted_at_the_very_end_is_finished(start, upstream):
    """A request that comes with the signal to leave takes its time, and gets it."""
    proxy = await start(upstream)
    assert (await command(proxy, "drain", "--prestop"))[0] == 0
    await proxy.line("phase", phase="drained")
    async with stopped(proxy):
        client = await proxy.client()
        await client.send(get("/slow"))
        proxy.signal()
    application = await upstream.connection_with_bytes()
    assert (await application.read_request()).start == b"GET /slow HTTP/1.1"
    # Longer than `settle` and twice `linger` together.
    await asyncio.sleep(0.6)
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await proxy.exit_code() == 0


async def test_the_listener_stays_open_while_the_last_work_goes_on(start, upstream):
    """Drained and told to go, but a late request takes its time: who comes meanwhile is served."""
    proxy = await start(upstream)
    assert (await command(proxy, "drain", "--prestop"))[0] == 0
    await proxy.line("phase", phase="drained")
    client, application = await held(proxy, upstream, get("/slow"))
    proxy.signal()
    # Longer than the exit takes when nothing holds it.
    await asyncio.sleep(0.5)
    late, other = await held(proxy, upstream, get("/late"))
    await other.send(OK_CLOSE)
    assert (await late.final()).raw == OK_CLOSE
    late.close()
    await application.send(OK_CLOSE)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await proxy.exit_code() == 0


async def test_a_flood_of_callers_at_the_exit_loses_none_that_connected(start):
    """Clients come one after another, without a pause, until the listener is gone: each has its answer."""
    outcomes: Counter[bytes] = Counter()
    flowing = asyncio.Event()

    async def call_until_gone(proxy) -> None:
        while True:
            try:
                client = await proxy.client()
            except ConnectionError:
                return
            outcomes.update(await ask_alone(client))
            if outcomes.total() > 200:
                flowing.set()

    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream)
        assert (await command(proxy, "drain", "--prestop"))[0] == 0
        await proxy.line("phase", phase="drained")
        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(call_until_gone(proxy))
            await flowing.wait()
            proxy.signal()
        assert outcomes.keys() == {OK_CLOSE}, outcomes
        assert await proxy.exit_code() == 0


async def ask_alone(client) -> Counter[bytes]:
    """Ask once; a request that cannot even be sent is an outcome too."""
    try:
        await client.send(get("/flood"))
    except ConnectionError as error:
        return Counter([type(error).__name__.encode()])
    found = await answers([client])
    client.close()
    return found
