"""The processes of the demo, and how its kubelet ends them. Real processes, no proxy."""

import asyncio
import sys

import pytest

from drainproxy.proof.demo.children import Child, Children, UnmeasuredError, children
from drainproxy.proof.demo.kubelet import delete_pod
from drainproxy.proof.demo.pods import Pod, Sidecar
from tests.proof.scripted import OK, Conversation, serve

READY = "import signal, sys; print('ready', flush=True); "
OBEYS = READY + "signal.pause()"
IGNORES = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY + "signal.pause()"
NOWHERE = ("127.0.0.1", 1)


async def started(owner: Children, script: str) -> Child:
    child = await owner.start("test", sys.executable, "-c", script)
    assert await child.says(lambda line: line or None) == "ready"
    return child


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_the_block_ends_its_processes():
    """Whatever they ignore: when the block is left, they are gone."""
    async with children() as owner:
        child = await started(owner, IGNORES)
        assert not child.gone.is_set()
    assert child.exited.is_set()
    assert child.exit_code == -9


async def test_an_interruption_ends_the_processes():
    """Cancelled, as Ctrl-C and SIGTERM do it, no process survives."""
    made: list[Child] = []
    inside = asyncio.Event()

    async def demo() -> None:
        async with children() as owner:
            made.append(await started(owner, IGNORES))
            inside.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(demo())
        await inside.wait()
        task.cancel()
    assert made[0].exit_code == -9


async def test_a_process_that_dies_early_is_no_measurement():
    """The error repeats its last words."""
    async with children() as owner:
        child = await owner.start("the app", sys.executable, "-c", "import sys; sys.exit('no port')")
        with pytest.raises(UnmeasuredError, match=r"the app is gone \(exit code 1\)\n  no port"):
            await child.says(lambda _: None)


async def test_a_pod_without_a_hook_gets_its_signal_at_once():
    """SIGTERM at t0, and the time is taken when the process is gone."""
    phases: list[str] = []
    async with children() as owner:
        pod = Pod(name="p", app=await started(owner, OBEYS), app_address=NOWHERE)
        gone = await delete_pod(pod, t0=now(), pre_stop_s=0.0, note=phases.append)
    assert not gone.killed
    assert phases[0] == "SIGTERM"
    assert phases[1].startswith("gone at")


async def test_a_sleeping_hook_comes_before_the_signal():
    """The hook's time passes first and is part of the time it takes."""
    async with children() as owner:
        pod = Pod(name="p", app=await started(owner, OBEYS), app_address=NOWHERE)
        gone = await delete_pod(pod, t0=now(), pre_stop_s=0.2, note=print)
    assert gone.after_s >= 0.2
    assert not gone.killed


@pytest.mark.parametrize("pre_stop_s", [0.0, 60.0])
async def test_the_end_of_the_grace_period_kills(pre_stop_s):
    """Whoever ignores SIGTERM, or sleeps too long before it, is killed on time."""
    async with children() as owner:
        pod = Pod(name="p", app=await started(owner, IGNORES), app_address=NOWHERE)
        gone = await delete_pod(pod, t0=now(), pre_stop_s=pre_stop_s, note=print, grace_s=0.1)
    assert gone.killed
    assert gone.after_s >= 0.1


async def test_the_application_gets_its_signal_when_the_hook_is_answered():
    """The proxy is told at t0, the application when /drain/wait answers and not before."""
    asked, release = asyncio.Event(), asyncio.Event()
    heard: list[bytes] = []

    async def admin(talk: Conversation) -> None:
        heard.append(await talk.head())
        asked.set()
        await release.wait()
        talk.say(OK)

    async with children() as owner, serve(admin) as address:
        app, proxy = await started(owner, OBEYS), await started(owner, OBEYS)
        pod = Pod(
            name="p",
            app=app,
            app_address=NOWHERE,
            sidecar=Sidecar(process=proxy, traffic=NOWHERE, admin=address),
        )
        async with asyncio.TaskGroup() as group:
            deletion = group.create_task(delete_pod(pod, t0=now(), pre_stop_s=0.0, note=print))
            await asked.wait()
            await proxy.gone.wait()
            assert not app.gone.is_set()
            release.set()
    assert heard[0].startswith(b"GET /drain/wait HTTP/1.1\r\n")
    assert not deletion.result().killed
    assert (proxy.exit_code, app.exit_code) == (-15, -15)
