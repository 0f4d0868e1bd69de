"""Rows about an application that fails at each stage of an answer: its caller is told the truth, at once."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.application import STAGES, Doomed
from tests.chaos.row import Evidence, Measured, row
from tests.integration.scene import get
from tests.support.message import Ending
from tests.support.wire import End

if TYPE_CHECKING:
    from tests.chaos.ground import Ground, Watched

TIMEOUT_S = 1.0
ROUTES = f"routes:\n  - path: /\n    response_head: {TIMEOUT_S:g}s\n    idle: {TIMEOUT_S:g}s\n"
GONE = Evidence(line="request: upstream-gone", series='errors_total{reason="upstream-gone"}')
HONEST = {"stall": {504}, "kill": {502, 503}}
"""503: asked again after a kept connection had died, and nobody listened any more."""
UPGRADE = ("Connection: Upgrade", "Upgrade: chat")


async def case(proxy: Watched, fault: str, stage: str) -> float:
    """Ask for one failure; check what the client hears; return how many seconds after its last byte."""
    loop = asyncio.get_running_loop()
    async with await proxy.client() as client:
        await client.send(get(f"/{fault}/{stage}", *(UPGRADE if stage == "tunnel" else ())))
        if STAGES[stage]:
            await client.read_head()
            if stage != "interim":
                await client.read_to(b"half")
        began = loop.time()
        if stage in {"head", "interim"}:
            answer = await client.final()
            if fault == "kill" and client.end is End.RESET:
                # Nobody listens any more: it ends as the application's own connections have.
                return loop.time() - began
            assert answer.ending is Ending.COMPLETE, answer.raw
            assert answer.status in HONEST.get(fault, {502}), answer.raw
        elif stage == "tunnel":
            await _tunnel_ends(client, fault)
        else:
            rest = await client.read_until_close()
            assert client.end is End.RESET, f"{stage}: a cut answer looks whole"
            assert not rest.endswith(b"0\r\n\r\n"), f"{stage}: a cut answer looks whole: {rest!r}"
        return loop.time() - began


async def _tunnel_ends(client, fault: str) -> None:
    """An end is passed on as what it was."""
    assert not await client.read_until_close()
    if fault in {"fin", "half"}:
        assert client.end is End.FIN
    elif fault == "reset":
        assert client.end is End.RESET
    if fault == "half":
        # The other half goes on.
        await client.send(b"and still heard")


async def every_stage(ground: Ground, fault: str) -> Measured:
    """Fail so often at each stage; afterwards the process is as before, and serves."""
    times = ground.pick(20, 3) if fault != "kill" else ground.pick(3, 1)
    with tempfile.TemporaryDirectory() as name:
        routes = Path(name) / "routes.yaml"
        routes.write_text(ROUTES)
        async with Doomed() as application:
            proxy = await ground.start(application.address, routes=str(routes), upstream_idle="200ms")
            await _served(proxy)
            if fault == "kill":
                # What it listens with is made anew when an application is back; what was there first is not
                # counted (inside.py).
                await case(proxy, fault, "head")
                await application.again()
                await _served(proxy)
            before = await proxy.baseline()
            took_s = []
            cases = [stage for stage in STAGES for _ in range(times)]
            if fault == "kill":
                for stage in cases:
                    took_s.append(await case(proxy, fault, stage))
                    await application.again()
                    await _served(proxy)
            else:
                took_s += await asyncio.gather(*(case(proxy, fault, stage) for stage in cases))
            await _served(proxy)
            await ground.settled(proxy, before, 5.0)
            await ground.end(())
    return Measured(max(took_s), f"at most, {len(took_s)} failures in {len(STAGES)} stages")


async def _served(proxy: Watched) -> None:
    """A new question is answered; while an application is away, its callers may be refused for a moment."""
    async with asyncio.timeout(10.0):
        while True:
            with contextlib.suppress(ConnectionError):
                async with await proxy.client() as client:
                    if (await client.ask(get())).body == b"ok":
                        return
            await asyncio.sleep(0.05)


UNIT = "s until the client knows"


@row("application: kill -9", GONE, most=1.0, unit=UNIT, timed=True)
async def killed(ground: Ground) -> Measured:
    """The application is killed before the head, after a 103, in a body, a chunk, an event, a tunnel."""
    return await every_stage(ground, "kill")


@row("application: RST", GONE, most=1.0, unit=UNIT, timed=True)
async def reset(ground: Ground) -> Measured:
    """Its connection is reset at each of these stages."""
    return await every_stage(ground, "reset")


@row("application: FIN", GONE, most=1.0, unit=UNIT, timed=True)
async def fin(ground: Ground) -> Measured:
    """Its connection is closed at each of these stages."""
    return await every_stage(ground, "fin")


@row("application: half-close", GONE, most=1.0, unit=UNIT, timed=True)
async def half_closed(ground: Ground) -> Measured:
    """It stops sending and goes on reading, at each of these stages; a tunnel's other half goes on."""
    return await every_stage(ground, "half")


@row(
    "application: stall",
    *(
        Evidence(line=f"request: {reason}", series=f'errors_total{{reason="{reason}"}}')
        for reason in ("response-head-timeout", "idle-timeout")
    ),
    most=TIMEOUT_S + 1.0,
    unit=UNIT,
    timed=True,
)
async def stalled(ground: Ground) -> Measured:
    """It says nothing more, at each of these stages, on a route with time-outs of 1 s."""
    return await every_stage(ground, "stall")
