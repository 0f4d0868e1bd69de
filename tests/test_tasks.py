"""Tasks that fail alone: what becomes of their failures, and how a group of them ends."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from drainproxy import tasks
from drainproxy.tasks import Connections
from tests.lifecycle.house import soon
from tests.support.clock import in_fake_time
from tests.support.wire import PATIENCE_S


class Group:
    """Connections whose failures are kept."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []
        self.connections = Connections(lambda name, failure: self.failures.append((name, repr(failure))))


async def _return() -> None: ...


async def _fail() -> None:
    raise ValueError("broken")


async def _for_ever() -> None:
    await asyncio.Event().wait()


@in_fake_time
async def test_what_blocks_is_waited_for_no_longer_than_that():
    """It goes on aside, and the loop with it; what is through in time is told from what is not."""
    released, ended = threading.Event(), threading.Event()

    def work() -> None:
        released.wait(PATIENCE_S)
        ended.set()

    assert not await tasks.aside(work, "test", 0.01)
    assert not ended.is_set()
    released.set()
    assert await asyncio.to_thread(ended.wait, PATIENCE_S)
    assert await tasks.aside(work, "test", PATIENCE_S)


async def test_a_task_is_in_the_group_until_it_ends():
    """The count is how many connections are open."""
    group = Group()
    task = group.connections.spawn(_return(), "client 1")
    assert (len(group.connections), task.get_name()) == (1, "client 1")
    await task
    await soon()
    assert len(group.connections) == 0
    assert group.failures == []


@in_fake_time
async def test_one_failure_is_told_by_name_and_nobody_else_notices():
    """One client's defect is that client's."""
    group = Group()
    bystander = group.connections.spawn(_for_ever(), "client 1")
    group.connections.spawn(_fail(), "client 2")
    await soon()
    assert group.failures == [("client 2", "ValueError('broken')")]
    assert not bystander.done()
    assert len(group.connections) == 1
    await group.connections.cancel()


@in_fake_time
async def test_a_cancelled_task_is_no_failure():
    """Somebody wanted it to end."""
    group = Group()
    task = group.connections.spawn(_for_ever(), "client")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await soon()
    assert (group.failures, len(group.connections)) == ([], 0)


@in_fake_time
async def test_the_group_keeps_its_tasks_alive():
    """The loop refers to them weakly: one that waits for nothing else would be collected in mid flight."""
    group, ended = Group(), []

    async def work() -> None:
        await asyncio.sleep(1.0)
        ended.append(True)

    group.connections.spawn(work(), "client")
    await soon()
    gc.collect()
    await asyncio.sleep(2.0)
    assert ended == [True]


@in_fake_time
async def test_cancelling_the_group_waits_until_all_have_ended():
    """Clean-up takes its time, and what fails in it is told like any failure."""
    group, tidied = Group(), []

    async def tidy(*, badly: bool) -> None:
        try:
            await _for_ever()
        finally:
            await asyncio.sleep(3.0)
            tidied.append(badly)
            if badly:
                raise ValueError("broken")

    group.connections.spawn(tidy(badly=False), "client 1")
    group.connections.spawn(tidy(badly=True), "client 2")
    await soon()
    await group.connections.cancel()
    await soon()
    assert sorted(tidied) == [False, True]
    assert group.failures == [("client 2", "ValueError('broken')")]
    assert len(group.connections) == 0


@in_fake_time
async def test_cancelling_an_empty_group_does_nothing():
    """The usual case at the end of a drain."""
    await Group().connections.cancel()
