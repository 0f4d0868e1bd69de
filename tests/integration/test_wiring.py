"""The two ways a kubelet stops a pod, as the proxy sees them: signals, hooks and the application's end.

Plain sidecar: SIGTERM and the application's /drain/wait come at the same moment. Native sidecar: the proxy's
own preStop hook says `drain --prestop`, and SIGTERM comes only after the application has gone.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.integration.application import Application
from tests.integration.scene import (
    DRAIN_DEADLINE,
    OK,
    OK_CLOSE,
    WAIT,
    command,
    entered,
    events,
    get,
    held,
    in_flight,
    on_one_loop,
    report,
    undated,
    waiting_hook,
)
from tests.support.client import Client
from tests.support.upstream import answering


@on_one_loop
async def test_an_application_that_restarts_alone_is_let_go(start):
    """No SIGTERM follows within `restart_window`: the hook is answered, and the proxy serves on."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, restart_window="300ms")
        client = await proxy.client()
        hook = await waiting_hook(proxy)
        assert (await client.ask(get())).raw == OK
        assert (await proxy.get("/readyz")).status == 200
        assert await hook == "not draining"
        await proxy.line("restart")
        assert not events(proxy, "drain_plan")
        # A second restart is let go like the first.
        assert await (await waiting_hook(proxy)) == "not draining"
        assert (await client.ask(get())).raw == OK
        assert (await proxy.get("/readyz")).status == 200
        client.close()


async def test_a_plain_sidecar_answers_the_hook_when_it_has_drained(start, upstream):
    """SIGTERM and the hook at t = 0; the application lives until its last request is finished."""
    proxy = await start(upstream)
    client, application = await held(proxy, upstream)
    proxy.signal()
    hook = await waiting_hook(proxy)
    await proxy.line("phase", phase="draining")
    # Neither `settle` nor the restart window answers it.
    await asyncio.sleep(0.3)
    assert not hook.done()
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await hook == "drained"
    assert await proxy.exit_code() == 0
    await report(proxy, finished=1)


@on_one_loop
async def test_a_hook_that_comes_before_sigterm_starts_the_clock(start, upstream):
    """The kubelet counts the grace period from the first hook, so the deadline does too."""
    proxy = await start(upstream, restart_window="10s")
    client, application = await held(proxy, upstream)
    hook = await waiting_hook(proxy)
    await asyncio.sleep(0.5)
    proxy.signal()
    plan = await proxy.line("drain_plan")
    # 30 - 5 - 3 less the half second and what lies around it.
    assert 15.0 < plan["deadline_in_s"] <= 21.5
    await proxy.line("phase", phase="draining")
    assert not hook.done()
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await hook == "drained"
    assert await proxy.exit_code() == 0


@on_one_loop
async def test_the_hook_is_answered_at_the_deadline(start, upstream):
    """Whatever is left is cut then, and the application has its `app_stop` for itself."""
    proxy = await start(upstream, grace_period="700ms", app_stop="100ms", reserve="100ms")
    client, _ = await held(proxy, upstream)
    proxy.signal()
    hook = await waiting_hook(proxy)
    assert undated(await client.final()) == DRAIN_DEADLINE
    client.close()
    assert await hook == "drained"
    assert await proxy.exit_code() == 0


@on_one_loop
async def test_every_container_may_wait_and_a_crowd_may_not(start, upstream):
    """64 hooks wait; more are told so at once; all of the 64 are answered."""
    proxy = await start(upstream)
    client, application = await held(proxy, upstream)
    proxy.signal()
    hooks = [await waiting_hook(proxy, others) for others in range(64)]
    assert (await proxy.get("/drain/wait")).status == 503
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await asyncio.gather(*hooks) == ["drained"] * 64
    assert await proxy.exit_code() == 0


@on_one_loop
async def test_hooks_are_no_work_and_do_not_hold_the_exit(start):
    """A hook that is answered hangs up; one that never reads its answer is left behind."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream)
        deaf = await Client.connect(proxy.admin)
        await deaf.send(WAIT)
        hook = await waiting_hook(proxy, others=1)
        proxy.signal()
        assert await hook == "drained"
        assert await proxy.exit_code() == 0
        await report(proxy)
        deaf.close()


async def test_a_native_sidecar_stays_until_the_application_has_gone(start):
    """`drain --prestop` returns at once; drained, the proxy serves on; SIGTERM ends it at once."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream)
        hook = await waiting_hook(proxy)
        assert await command(proxy, "drain", "--prestop") == (
            0,
            "draining, waits for settle, after the last byte",
        )
        assert await hook == "drained"
        await proxy.line("drain_report")
        # The application stops now, and still calls and is called.
        client = await proxy.client()
        assert (await client.ask(get())).raw == OK_CLOSE
        client.close()
        assert (await proxy.metrics())["after_drained_total"] == 1
        assert (await proxy.get("/livez")).status == 200
        assert (await proxy.get("/readyz")).status == 503
    # The block's end was the application's.
    await proxy.line("application", state="refuses connections")
    with pytest.raises(ConnectionRefusedError):
        while True:
            with contextlib.suppress(ConnectionResetError):
                (await proxy.client()).close()
    proxy.signal()
    assert await proxy.exit_code() == 0
    assert len(events(proxy, "drain_report")) == 1


async def test_sigterm_in_mid_drain_without_an_application_ends_it_at_once(start):
    """Every main container has exited: a request that is still being sent can never be answered."""
    async with Application() as upstream:
        proxy = await start(upstream, propagation="cluster")
        client = await proxy.client()
        await client.send(get()[:7])
        await in_flight(proxy, 1)
        assert (await command(proxy, "drain", "--prestop"))[0] == 0
        await proxy.line("phase", phase="propagating")
        await upstream.stop_listening()
        proxy.signal()
        assert undated(await client.final()) == DRAIN_DEADLINE
        client.close()
        assert await proxy.exit_code() == 0
        line = await report(proxy)
        assert line["ended_by"] == "the application is gone"


async def test_sigterm_in_mid_drain_leaves_an_application_time_that_closes_its_door_first(start):
    """Both were signalled: gunicorn, uvicorn, Node and Go close first and finish what they have."""
    async with Application() as upstream:
        proxy = await start(upstream, propagation="cluster")
        client, application = await held(proxy, upstream)
        assert (await command(proxy, "drain", "--prestop"))[0] == 0
        await proxy.line("phase", phase="propagating")
        await upstream.stop_listening()
        proxy.signal()
        await proxy.line("phase", phase="draining", why="the application is gone")
        await application.send(OK)
        assert (await client.final()).raw == OK_CLOSE
        client.close()
        assert await proxy.exit_code() == 0
        await report(proxy, finished=1)


@on_one_loop
async def test_sigterm_in_mid_drain_with_an_application_changes_nothing(start, upstream):
    """Somebody sent it by hand, or a plain sidecar's kubelet: the drain goes on."""
    proxy = await start(upstream)
    client, application = await held(proxy, upstream)
    assert (await command(proxy, "drain", "--prestop"))[0] == 0
    await proxy.line("phase", phase="draining")
    proxy.signal()
    late, other = await held(proxy, upstream)
    await other.send(OK_CLOSE)
    assert (await late.final()).raw == OK_CLOSE
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    late.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=2, late=1)


@on_one_loop
async def test_drain_wait_on_the_command_line_returns_when_drained(start, upstream):
    """`drainproxy drain --wait`, for a script that restarts things by hand."""
    proxy = await start(upstream)
    client, application = await held(proxy, upstream)
    script = asyncio.ensure_future(command(proxy, "drain", "--wait"))
    await proxy.line("phase", phase="draining")
    other = await proxy.client()
    await other.send(get())
    second = await entered(upstream)
    assert not script.done()
    for each, end in ((client, application), (other, second)):
        await end.send(OK_CLOSE)
        assert (await each.final()).raw == OK_CLOSE
        each.close()
    code, said = await script
    assert (code, said.splitlines()[-1]) == (0, "drained")
    proxy.signal()
    assert await proxy.exit_code() == 0
