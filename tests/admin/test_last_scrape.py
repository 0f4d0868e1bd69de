"""A drain's numbers are fetched before the application is let go, and nobody waits for longer."""

from __future__ import annotations

import asyncio

import pytest

from tests.admin.premises import PATIENCE_S, Premises, soon

FAR_S = 3600.0
CLOCK_S = 0.01
"""What timers of libuv are rounded by, and more."""


async def leave(premises: Premises, *, lost: bool = True) -> asyncio.Task[None]:
    """Be told to end, and have nothing more to do; return the wait for what then lets the process go.

    `lost`: a request was, so that there is something to tell.
    """
    premises.sigterm()
    if lost:
        premises.metrics.drain_requests.inc("lost")
    premises.finish()
    waiting = asyncio.create_task(premises.controller.until(lambda: premises.controller.may_exit))
    await asyncio.sleep(0)
    return waiting


async def over(waiting: asyncio.Task[None]) -> None:
    """Fail if the wait does not end."""
    async with asyncio.timeout(PATIENCE_S):
        await waiting


async def leaves_at_once(premises: Premises, *, lost: bool = True) -> None:
    """Fail if anybody is waited for: the wait would end by itself, but it has said so by then."""
    await over(await leave(premises, lost=lost))
    assert premises.diary.of("last_scrape") == []


def scraped(premises: Premises, address: str, *ago_s: float) -> None:
    """Let `address` have scraped that long ago."""
    for seconds in ago_s:
        premises.admin._scrapes.record(address, premises.loop.time() - seconds)


async def test_without_a_scraper_nobody_waits(premises):
    """Most processes that drain on a laptop."""
    await leaves_at_once(premises)


async def test_a_scrape_after_drained_lets_the_application_go(premises):
    """The event is the scrape itself, once its last byte was written; hooks wait for it as the exit does."""
    await premises.ask("GET /metrics")
    hook = await premises.hook()
    waiting = await leave(premises)
    (line,) = premises.diary.of("last_scrape")
    assert line["awaited"] == ["127.0.0.1"]
    assert (await premises.ask("GET /readyz")).status == 503
    assert not waiting.done()
    assert premises.controller.waiting_for() == "a last scrape"
    assert 'drainproxy_phase{phase="drained"} 1.0' in (await premises.ask("GET /metrics")).text
    await over(waiting)
    assert (await hook.answer()).text == "drained\n"
    assert len(premises.diary.of("last_scrape")) == 1


async def test_every_scraper_has_to_come(premises):
    """Two Prometheus servers scrape a pod on their own clocks."""
    scraped(premises, "192.0.2.1", 20.0, 5.0)
    scraped(premises, "127.0.0.1", 20.0, 5.0)
    waiting = await leave(premises)
    await premises.ask("GET /metrics")
    await soon(premises.admin._fetched.is_set)
    assert not waiting.done()
    scraped(premises, "192.0.2.1", 0.0)
    premises.controller.fetched()
    await over(waiting)


async def test_who_scrapes_too_seldom_is_not_waited_for(premises):
    """Its next scrape is due later than `final_scrape_wait`."""
    scraped(premises, "192.0.2.1", 65.0, 5.0)
    await leaves_at_once(premises)


@pytest.mark.parametrize("ago_s", [(20.0, 5.0), (9.0,), (0.1,)], ids=["due in 10 s", "once", "just now"])
async def test_a_drain_that_lost_nothing_waits_for_what_is_due_at_once_and_nothing_else(premises, ago_s):
    """Of a rollout's seconds a scrape is worth less than one where it has nothing to tell."""
    scraped(premises, "192.0.2.1", *ago_s)
    await leaves_at_once(premises, lost=False)


async def test_a_scrape_that_is_due_at_once_is_waited_for_by_everybody(premises):
    """A twentieth of `final_scrape_wait`: it costs next to nothing."""
    scraped(premises, "127.0.0.1", 20.0, 9.9)
    waiting = await leave(premises, lost=False)
    (line,) = premises.diary.of("last_scrape")
    assert line["within_s"] <= 0.75
    await premises.ask("GET /metrics")
    await over(waiting)


async def test_the_wait_ends_at_final_scrape_wait(tmp_path):
    """A scraper that never comes back costs that long and no more."""
    async with Premises(tmp_path, final_scrape_wait=0.5) as premises:
        scraped_at = premises.loop.time() - 0.1
        premises.admin._scrapes.record("192.0.2.1", scraped_at)
        scraped(premises, "192.0.2.2", 0.4, 0.1)
        await over(await leave(premises))
        # Also on a machine so slow that nobody was due any more.
        assert premises.loop.time() >= scraped_at + 0.5 - CLOCK_S


async def test_the_wait_ends_at_the_deadline(tmp_path):
    """The application's time to stop waits for no scrape."""
    async with Premises(tmp_path, grace_period=1.0, app_stop=0.2, reserve=0.6, leave_spread=0.0) as premises:
        scraped(premises, "192.0.2.1", 20.0, 10.0)
        hook = await premises.hook()
        await over(await leave(premises))
        assert premises.loop.time() >= premises.controller.plan.budget.deadline(premises.controller.drain.t0)
        assert (await hook.answer()).text == "drained\n"


async def test_a_switched_off_wait_is_none(tmp_path):
    """`final_scrape_wait: 0s`."""
    async with Premises(tmp_path, final_scrape_wait=0.0) as premises:
        scraped(premises, "192.0.2.1", 2.0, 1.0)
        await leaves_at_once(premises)


async def test_who_watches_status_sees_the_end(premises):
    """`drainproxy status --watch` asks four times a second; the exit takes a millisecond."""
    now = premises.loop.time()
    for ago_s in (1.0, 0.1):
        premises.admin._looks.record("127.0.0.1", now - ago_s)
    waiting = await leave(premises, lost=False)
    assert not waiting.done()
    shown = (await premises.ask("GET /status")).json
    assert shown["phase"] == "drained"
    assert shown["waiting_for"] == "a last scrape"
    assert shown["report"]["ended_by"] == "the test says so"
    await over(waiting)


async def test_one_look_at_status_holds_nobody_up(premises):
    """A script's single question is no watch."""
    await premises.ask("GET /status")
    waiting = await leave(premises)
    assert waiting.done()
    await over(waiting)


# What the deadline has ended: the application is stopping already.


async def late(premises: Premises, *, until: float = FAR_S) -> asyncio.Task[None]:
    """Be cut by the deadline, and wait as app.py does."""
    await over(await leave(premises))
    until += premises.loop.time()
    waiting = asyncio.create_task(premises.admin.wait_last_scrape(until=until))
    await asyncio.sleep(0)
    return waiting


async def test_past_the_deadline_a_scrape_ends_the_wait(premises):
    """What was cut is what there is to tell."""
    premises.controller.hooks.last_scrape = lambda _report, _until: 0.0
    await premises.ask("GET /metrics")
    waiting = await late(premises)
    assert not waiting.done()
    await premises.ask("GET /metrics")
    await over(waiting)


async def test_past_the_deadline_the_wait_ends_when_the_applications_time_does(premises):
    """The kubelet's SIGKILL waits for no scrape."""
    premises.controller.hooks.last_scrape = lambda _report, _until: 0.0
    scraped(premises, "192.0.2.1", 20.0, 5.0)
    await over(await late(premises, until=0.05))
    await over(await late(premises, until=-1.0))


async def test_who_watches_status_sees_what_a_deadline_cut(premises):
    """The deadline has passed by then: the last look comes out of the reserve."""
    premises.controller.hooks.last_scrape = lambda _report, _until: 0.0
    now = premises.loop.time()
    for ago_s in (0.5, 0.1):
        premises.admin._looks.record("127.0.0.1", now - ago_s)
    waiting = await late(premises, until=-1.0)
    assert not waiting.done()
    assert (await premises.ask("GET /status")).json["phase"] == "drained"
    await over(waiting)
