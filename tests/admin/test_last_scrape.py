"""After the drain the metrics port stays for whoever still needs its numbers, and not longer."""

from __future__ import annotations

import asyncio

from tests.admin.premises import PATIENCE_S, Premises, soon

FAR_S = 3600.0


async def leave(premises: Premises, *, until: float = FAR_S) -> asyncio.Task[None]:
    """Be drained, and begin to wait as app.py does."""
    premises.sigterm()
    premises.finish()
    waiting = asyncio.create_task(premises.admin.wait_last_scrape(until=premises.loop.time() + until))
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


async def test_a_scrape_after_drained_ends_the_wait(premises):
    """The event is the scrape itself, once its last byte was written."""
    await premises.ask("GET /metrics")
    waiting = await leave(premises)
    (line,) = premises.diary.of("last_scrape")
    assert line["awaited"] == ["127.0.0.1"]
    assert not waiting.done()
    assert 'drainproxy_phase{phase="drained"} 1.0' in (await premises.ask("GET /metrics")).text
    await over(waiting)


async def test_every_scraper_has_to_come(premises):
    """Two Prometheus servers scrape a pod on their own clocks."""
    scraped(premises, "192.0.2.1", 20.0, 5.0)
    scraped(premises, "127.0.0.1", 20.0, 5.0)
    waiting = await leave(premises)
    await premises.ask("GET /metrics")
    await soon(lambda: not premises.admin._fetched.is_set())
    assert not waiting.done()
    scraped(premises, "192.0.2.1", 0.0)
    premises.admin._fetched.set()
    await over(waiting)


async def test_who_scrapes_too_seldom_is_not_waited_for(premises):
    """Its next scrape is due later than `final_scrape_wait`."""
    scraped(premises, "192.0.2.1", 65.0, 5.0)
    await over(await leave(premises))


async def test_the_wait_ends_at_final_scrape_wait(tmp_path):
    """A scraper that never comes back costs that long and no more."""
    premises = Premises(tmp_path, final_scrape_wait=0.05)
    await premises.open()
    await premises.ask("GET /metrics")
    scraped(premises, "192.0.2.1", 0.06, 0.02)
    await over(await leave(premises))
    await premises.close()


async def test_the_wait_ends_at_the_deadline(premises):
    """The kubelet's SIGKILL waits for no scrape."""
    scraped(premises, "192.0.2.1", 20.0, 5.0)
    await over(await leave(premises, until=0.05))
    await over(await leave(premises, until=-1.0))


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
    waiting = await leave(premises)
    assert not waiting.done()
    shown = (await premises.ask("GET /status")).json
    assert shown["phase"] == "drained"
    assert shown["report"]["ended_by"] == "the test says so"
    await over(waiting)


async def test_who_watches_status_sees_what_a_deadline_cut(premises):
    """The deadline has passed by then: the last look comes out of the reserve."""
    now = premises.loop.time()
    for ago_s in (0.5, 0.1):
        premises.admin._looks.record("127.0.0.1", now - ago_s)
    waiting = await leave(premises, until=-1.0)
    assert not waiting.done()
    assert (await premises.ask("GET /status")).json["phase"] == "drained"
    await over(waiting)


async def test_one_look_at_status_holds_nobody_up(premises):
    """A script's single question is no watch."""
    await premises.ask("GET /status")
    await over(await leave(premises))
