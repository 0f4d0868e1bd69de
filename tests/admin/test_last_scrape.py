"""A drain's numbers are fetched before the application is let go, and nobody waits for longer."""

from __future__ import annotations

import asyncio

import pytest

from tests.admin.premises import PATIENCE_S, Premises, soon

FAR_S = 3600.0


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


def scraped(premises: Premises, address: str, *ago_s: float) -> None:
    """Let `address` have scraped that long ago."""
    for seconds in ago_s:
        premises.admin._scrapes.record(address, premises.loop.time() - seconds)


async def test_without_a_scraper_nobody_waits(premises):
    """Most processes that drain on a laptop."""
    await over(await leave(premises))
    assert premises.diary.of("last_scrape") == []


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
    await over(await leave(premises))


@pytest.mark.parametrize("ago_s", [(20.0, 5.0), (9.0,), (0.1,)], ids=["due in 10 s", "once", "just now"])
async def test_a_drain_that_lost_nothing_waits_for_what_is_due_at_once_and_nothing_else(premises, ago_s):
    """Of a rollout's seconds a scrape is worth less than one where it has nothing to tell."""
    scraped(premises, "192.0.2.1", *ago_s)
    await over(await leave(premises, lost=False))
    assert premises.diary.of("last_scrape") == []


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
    premises = Premises(tmp_path, final_scrape_wait=0.05)
    await premises.open()
    await premises.ask("GET /metrics")
    scraped(premises, "192.0.2.1", 0.06, 0.02)
    await over(await leave(premises))
    await premises.close()


async def test_the_wait_ends_at_the_deadline(tmp_path):
    """The application's time to stop waits for no scrape."""
    premises = Premises(tmp_path, grace_period=1.0, app_stop=0.2, reserve=0.6, leave_spread=0.0)
    await premises.open()
    scraped(premises, "192.0.2.1", 20.0, 10.0)
    hook = await premises.hook()
    await over(await leave(premises))
    assert premises.loop.time() >= premises.controller.plan.budget.deadline(premises.controller.drain.t0)
    assert (await hook.answer()).text == "drained\n"
    await premises.close()


async def test_a_switched_off_wait_is_none(tmp_path):
    """`final_scrape_wait: 0s`."""
    premises = Premises(tmp_path, final_scrape_wait=0.0)
    await premises.open()
    scraped(premises, "192.0.2.1", 2.0, 1.0)
    await over(await leave(premises))
    await premises.close()


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
    await over(await leave(premises))


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
