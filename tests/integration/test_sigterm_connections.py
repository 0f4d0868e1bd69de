"""SIGTERM and connections without a request under way: new ones, idle ones, silent ones, begun ones."""

from __future__ import annotations

import asyncio

from tests.integration.application import Application
from tests.integration.scene import OK, OK_CLOSE, entered, get, held, in_flight, on_one_loop, report
from tests.support.upstream import answering
from tests.support.wire import End

OK_1_0 = OK_CLOSE
"""A 1.0 client is told to close with every answer, drain or no drain."""


async def test_an_idle_keep_alive_connection_gets_one_more_answer_with_close(start, upstream):
    """The client may be sending as the signal comes: what it sends is answered, and told to be the last."""
    proxy = await start(upstream)
    idle, application = await held(proxy, upstream)
    await application.send(OK_CLOSE)
    assert (await idle.final()).raw == OK
    # Something else keeps the drain going.
    busy, other = await held(proxy, upstream, get("/busy"))
    proxy.signal()
    await proxy.line("phase", phase="draining")
    await idle.send(get("/one-more"))
    application = await entered(upstream)
    await application.send(OK_CLOSE)
    assert (await idle.final()).raw == OK_CLOSE
    assert await idle.read_eof() is End.FIN
    await other.send(OK_CLOSE)
    assert (await busy.final()).raw == OK_CLOSE
    idle.close()
    busy.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=2, late=1)


async def test_a_connection_that_is_still_silent_may_speak_during_the_drain(start, upstream):
    """A pool opened it ahead, and uses it only after the signal."""
    proxy = await start(upstream)
    silent = await proxy.client()
    busy, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    await silent.send(get())
    other = await entered(upstream)
    await other.send(OK_CLOSE)
    assert (await silent.final()).raw == OK_CLOSE
    await application.send(OK_CLOSE)
    assert (await busy.final()).raw == OK_CLOSE
    silent.close()
    busy.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=2, late=1)


async def test_a_caller_beyond_the_limit_in_mid_drain_is_told_of(start, upstream):
    """It came late and was refused: the report says both."""
    proxy = await start(upstream, max_connections="1")
    busy, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    late = await proxy.client()
    await late.send(get())
    assert (await late.final()).status == 503
    await application.send(OK_CLOSE)
    assert (await busy.final()).raw == OK_CLOSE
    assert await proxy.exit_code() == 0
    await report(proxy, finished=1, refused=1, late=1)


async def test_new_connections_are_served_as_long_as_the_process_lives(start, upstream):
    """The listener closes last: late callers are answered, counted late, and told to close."""
    proxy = await start(upstream)
    busy, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    for _ in range(3):
        late, other = await held(proxy, upstream)
        await other.send(OK_CLOSE)
        assert (await late.final()).raw == OK_CLOSE
        assert await late.read_eof() is End.FIN
        late.close()
    metrics = await proxy.metrics()
    assert metrics['late_connections_total{kind="request"}'] == 3
    assert metrics["late_requests_total"] == 3
    assert metrics["late_connection_age_seconds_count"] == 3
    await application.send(OK_CLOSE)
    assert (await busy.final()).raw == OK_CLOSE
    busy.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=4, late=3)


async def test_a_head_that_has_begun_is_waited_for(start, upstream):
    """A request is work from its first byte on, not from the end of its head."""
    proxy = await start(upstream)
    client = await proxy.client()
    request = get("/slow")
    await client.send(request[:7])
    await in_flight(proxy, 1)
    proxy.signal()
    plan = await proxy.line("drain_plan")
    assert plan["in_flight"] == 1
    await proxy.line("phase", phase="draining")
    # Longer than `settle`.
    await asyncio.sleep(0.3)
    await client.send(request[7:])
    application = await entered(upstream)
    await application.send(OK_CLOSE)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=1, late=1)


async def test_a_request_in_the_last_moments_of_settle_is_admitted(start, upstream):
    """Nothing is in flight any more; a byte starts `settle` anew, and a request is finished."""
    proxy = await start(upstream, settle="800ms")
    first = await proxy.client()
    second = await proxy.client()
    proxy.signal()
    await proxy.line("phase", phase="draining")
    for client in (first, second):
        # Without the first of them `settle` would be over at the second.
        await asyncio.sleep(0.5)
        await client.send(get())
        application = await entered(upstream)
        await application.send(OK_CLOSE)
        assert (await client.final()).raw == OK_CLOSE
        client.close()
    assert await proxy.exit_code() == 0
    line = await report(proxy, finished=2, late=2)
    assert line["phases_s"]["draining"] >= 1.79


async def test_idle_connections_end_with_a_fin(start):
    """At the exit nobody is reset: each kind of idle connection reads a clean end."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream)
        silent = [await proxy.client() for _ in range(5)]
        used = [await proxy.client() for _ in range(5)]
        for client in used:
            assert (await client.ask(get())).raw == OK
        proxy.signal()
        for client in silent + used:
            assert await client.read_eof() is End.FIN
            client.close()
        assert await proxy.exit_code() == 0
        await report(proxy)


@on_one_loop
async def test_a_peer_that_never_closes_costs_linger_and_no_more(start):
    """Half-closed and read for up to `linger`; then the process goes, whatever the clients do."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, linger="300ms")
        clients = [await proxy.client() for _ in range(5)]
        for client in clients:
            assert (await client.ask(get())).raw == OK
        proxy.signal()
        await proxy.line("phase", phase="drained")
        assert await proxy.exit_code() == 0


@on_one_loop
async def test_a_1_0_client_is_answered_in_its_own_way(start, upstream):
    """Its connection ends after each answer anyway; during a drain the same bytes come."""
    proxy = await start(upstream)
    before, application = await held(proxy, upstream, get(version="1.0"))
    during, other = await held(proxy, upstream, get(version="1.0"))
    await application.send(OK_CLOSE)
    assert (await before.final()).raw == OK_1_0
    proxy.signal()
    await proxy.line("phase", phase="draining")
    await other.send(OK_CLOSE)
    assert (await during.final()).raw == OK_1_0
    for client in (before, during):
        assert await client.read_eof() is End.FIN
        client.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=1)
