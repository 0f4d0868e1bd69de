"""Rows about applications that are killed while others serve, or nobody does.

Beside each stand the same bare, and behind drainproxy as it is without settings. Nobody asks twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tests.chaos.fleet import Fleet, fleet
from tests.chaos.row import ONE, Evidence, Measured, row

if TYPE_CHECKING:
    from tests.chaos.ground import Ground

HAND_OFF = {"handoff": "on", "hold_while_down": "12s"}
HOLD = {"hold_while_down": "12s"}
UNIT = "GETs lost"
HANDED = Evidence(line="siblings", series='handoff_total{outcome="answered"}')
HELD = Evidence(line="application", series='held_total{outcome="back"}')
CALLERS, EVERY_S = 24, 0.03


async def _played(
    ground: Ground,
    replicas: int,
    play: Callable[[Fleet], Awaitable[None]],
    *,
    callers: int = CALLERS,
    **how: Any,
) -> Fleet:
    """Play under load; return what became of the requests."""
    async with fleet(ground, replicas, **how) as it:
        async with it.called(callers, EVERY_S):
            await asyncio.sleep(0.5)
            await play(it)
            await asyncio.sleep(0.5)
        for proxy in ground.proxies:
            if proxy._child.returncode is None:
                await ground.books(proxy)
                proxy.signal()
                assert await proxy.exit_code(20.0) == 0
        assert not it.twice(), "an order was processed twice"
        return it


def _said(name: str, it: Fleet) -> str:
    gets, posts = it.gets, it.posts
    away = gets.turned_away + posts.turned_away
    refused = f", {away} turned away by the data plane" if away else ""
    return f"{name}: {gets.lost} of {gets.sent:,} GETs, {posts.lost} of {posts.sent:,} POSTs{refused}"


Play = Callable[[Fleet], Awaitable[None]]


async def _beside(
    ground: Ground, replicas: int, play: Play, chosen: str, *, beside: Play | None = None, **how: str
) -> Measured:
    """Measure with settings, and the same, or a part of it, in other ways where there is time for that."""
    it = await _played(ground, replicas, play, **how)
    said = [_said(chosen, it)]
    if not ground.short:
        others: dict[str, dict[str, Any]] = {"bare": {"bare": True}, "without settings": {}, "hold": HOLD}
        for name, settings in others.items():
            if settings != how:
                said.append(_said(name, await _played(ground, replicas, beside or play, **settings)))
    return Measured(it.gets.lost, "; ".join(said))


def _once(away_s: float, times: int = 1) -> Callable[[Fleet], Awaitable[None]]:
    async def play(it: Fleet) -> None:
        for number in range(times):
            await it.outage(it.replicas[number % len(it.replicas)], away_s)

    return play


@row("killed, one of three", HANDED, most=0, unit=UNIT, loops=ONE)
async def one_of_three(ground: Ground) -> Measured:
    """Each of three applications is killed in its turn, and is back after 2 s: hand-off."""
    play = _once(2.0, ground.pick(13, 1))
    return await _beside(ground, 3, play, "hand-off", beside=_once(2.0, 3), **HAND_OFF)


@row("crash loop, one of three", HANDED, most=0, unit=UNIT, loops=ONE)
async def crash_loop(ground: Ground) -> Measured:
    """One of three is killed as soon as it is back, and is away for longer each time: hand-off."""

    async def play(it: Fleet) -> None:
        for away_s in ground.pick((0.5, 2.0, 4.0, 8.0), (0.5, 1.0)):
            await it.outage(it.replicas[0], away_s)

    return await _beside(ground, 3, play, "hand-off", **HAND_OFF)


@row("killed, alone, back after 0.5 s", HELD, most=0, unit=UNIT, loops=ONE)
async def alone_shortly(ground: Ground) -> Measured:
    """The only application is killed: hold."""
    return await _beside(ground, 1, _once(0.5), "hold", **HOLD)


@row("killed, alone, back after 2 s", HELD, most=0, unit=UNIT, loops=ONE)
async def alone(ground: Ground) -> Measured:
    """The same, and its endpoint flips meanwhile: who is connected is held."""
    return await _beside(ground, 1, _once(2.0, ground.pick(3, 1)), "hold", **HOLD)


@row("killed, alone, back after 8 s", HELD, most=0, unit=UNIT, loops=ONE)
async def alone_for_long(ground: Ground) -> Measured:
    """The same, for longer than most callers wait."""
    return await _beside(ground, 1, _once(ground.pick(8.0, 3.0)), "hold", **HOLD)
