"""/drain/wait: an application's preStop hook waits here for the end of the drain."""

from __future__ import annotations

import pytest

from drainproxy.admin.server import MAX_WAITERS
from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import Rules
from drainproxy.lifecycle.report import Cause
from tests.admin.premises import Job, Premises, soon
from tests.support.hold import hold


async def test_a_hook_is_answered_when_the_drain_is_over(premises):
    """It came first, as it may: hooks and signals run in parallel."""
    hook = await premises.hook()
    premises.sigterm()
    shown = (await premises.ask("GET /status")).json
    assert (shown["phase"], shown["hooks_waiting"]) == ("propagating", 1)
    premises.finish()
    answer = await hook.answer()
    assert (answer.status, answer.text) == (200, "drained\n")


async def test_a_hook_that_comes_in_mid_drain_waits_for_its_end(premises):
    """It gets no shorter answer for being late."""
    premises.sigterm()
    hook = await premises.hook()
    premises.finish()
    assert (await hook.answer()).text == "drained\n"


async def test_a_hook_that_comes_after_the_drain_is_answered_at_once(premises):
    """Idempotent: the kubelet may ask again."""
    premises.sigterm()
    premises.finish()
    assert (await premises.ask("GET /drain/wait")).text == "drained\n"
    assert (await premises.ask("GET /drain/wait")).text == "drained\n"


async def test_waiting_starts_no_drain(premises):
    """Anyone on the pod network reaches it."""
    hook = await premises.hook()
    assert premises.controller.published.phase is Phase.READY
    assert (await premises.ask("GET /readyz")).status == 200
    await hook.hang_up()


async def test_an_application_that_was_stopped_alone_is_not_held(tmp_path):
    """No SIGTERM within `restart_window`: only its container restarts."""
    premises = Premises(tmp_path, restart_window=0.05)
    await premises.open()
    answer = await premises.ask("GET /drain/wait")
    assert (answer.status, answer.text) == (200, "not draining\n")
    assert premises.controller.published.phase is Phase.READY
    await premises.close()


async def test_a_hook_is_answered_when_the_drain_is_taken_back(premises):
    """Nothing ends, so nobody has to wait."""
    premises.controller.terminate(Cause.MANUAL)
    hook = await premises.hook()
    assert premises.controller.resume() is None
    assert (await hook.answer()).text == "not draining\n"


async def test_a_hook_is_answered_at_the_deadline_though_work_is_left(tmp_path):
    """The application needs the rest of the grace period to stop."""
    premises = Premises(tmp_path, rules=Rules(0, 0, 0, 0), grace_period=0.5)
    await premises.open()
    with hold(premises.inflight, Job()):
        premises.sigterm()
        assert (await premises.ask("GET /drain/wait")).text == "drained\n"
        await premises.controller.until(lambda: premises.controller.report is not None)
    (report,) = premises.diary.of("drain_report")
    assert report["ended_by"] == "the drain's deadline"
    await premises.close()


async def test_a_hook_that_hangs_up_frees_its_place(premises):
    """A killed hook container must not block the others."""
    hook = await premises.hook()
    await hook.hang_up()
    await premises.controller.left.acquire()
    shown = (await premises.ask("GET /status")).json
    assert shown["hooks_waiting"] == 0


async def test_at_most_64_wait_and_a_place_that_is_freed_is_given_away(premises):
    """The 65th is told so at once; health checks are not in the way of it."""
    premises.sigterm()
    hooks = [await premises.hook() for _ in range(MAX_WAITERS)]
    refused = await premises.ask("GET /drain/wait")
    assert (refused.status, refused.text) == (503, "64 wait already\n")
    assert (await premises.ask("GET /livez")).status == 200
    await hooks.pop().hang_up()
    await premises.controller.left.acquire()
    hooks.append(await premises.hook(control=True))
    premises.finish()
    assert {(await hook.answer()).text for hook in hooks} == {"drained\n"}


async def test_no_neighbour_keeps_the_kubelets_hooks_out(premises):
    """Who takes every place gives one back for each address that asks with fewer, the oldest first."""
    premises.sigterm()
    neighbours = [await premises.hook(own="127.0.0.2") for _ in range(MAX_WAITERS)]
    kubelets = [await premises.hook(), await premises.hook()]
    for _ in kubelets:
        answer = await neighbours.pop(0).answer()
        assert (answer.status, answer.text) == (503, "others wait, too\n")
    assert (await premises.ask("GET /drain/wait", own="127.0.0.2")).status == 503
    assert (await premises.ask("GET /status")).json["hooks_waiting"] == MAX_WAITERS
    premises.finish()
    assert {(await hook.answer()).text for hook in (*kubelets, *neighbours)} == {"drained\n"}


PROBE = "Host: localhost\r\nUser-Agent: kube-probe/1.36"


async def test_neighbours_with_many_addresses_do_not_push_the_kubelets_hooks_out(tmp_path):
    """The node's addresses have places of their own, whoever was first and whatever he calls himself."""
    premises = Premises(tmp_path, node=frozenset(("127.0.0.1",)))
    await premises.open()
    assert (await premises.ask("GET /readyz", head=PROBE, own="127.0.0.9")).status == 200
    premises.sigterm()
    crowd = [await premises.hook(own=f"127.0.1.{number}", head=PROBE) for number in range(MAX_WAITERS)]
    refused = await premises.ask("GET /drain/wait", own="127.0.2.1", head=PROBE)
    assert (refused.status, refused.text) == (503, "64 wait already\n")
    kubelets = [await premises.hook() for _ in range(20)]
    premises.finish()
    assert {(await hook.answer()).text for hook in (*kubelets, *crowd)} == {"drained\n"}
    await premises.close()


async def test_the_nodes_places_are_bounded_too(tmp_path):
    """Pods on the host's network come from there as well."""
    premises = Premises(tmp_path, node=frozenset(("127.0.0.1",)))
    await premises.open()
    premises.sigterm()
    hooks = [await premises.hook() for _ in range(MAX_WAITERS)]
    assert (await premises.ask("GET /drain/wait")).status == 503
    premises.finish()
    assert {(await hook.answer()).text for hook in hooks} == {"drained\n"}
    await premises.close()


@pytest.mark.parametrize("control", [False, True])
async def test_stopping_the_server_ends_a_hook_that_still_waits(premises, control):
    """The process exits in any case; the hook's connection tells the kubelet."""
    hook = await premises.hook(control=control)
    await premises.close()
    assert await hook.closed_without_answer()
    await soon(lambda: not premises.controller.left.locked())
