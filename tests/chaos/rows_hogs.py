"""Rows about peers that say next to nothing as fast as they can: others have their turn."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.row import Evidence, Measured, row
from tests.integration.scene import get
from tests.support.authority import Authority
from tests.support.client import Client
from tests.support.hogs import HOGS, PROBE, Crowd, Hog, application
from tests.support.wire import PATIENCE_S
from tests.support.words import OK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.chaos.ground import Ground
    from tests.chaos.ground import Watched as Process

CLIENTS = 4
PROBE_S = 0.02
LATE_BUCKET = 'event_loop_lag_seconds_bucket{le="0.1"}'
ALL_BUCKET = 'event_loop_lag_seconds_bucket{le="+Inf"}'
GRACE_S = 6.0


def _playing(hog: Hog) -> Callable[[Ground], Awaitable[Measured]]:
    """Return the row of one hog."""

    async def play(ground: Ground) -> Measured:
        directory = Path(ground.stack.enter_context(tempfile.TemporaryDirectory()))
        authority = Authority(directory)
        certificate, key = authority.issue()
        async with application(hog) as address:
            proxy = await ground.start(
                address,
                address,
                listen=("127.0.0.1:0", "https://127.0.0.1:0"),
                tls_certificate=str(certificate),
                tls_key=str(key),
                grace_period=f"{GRACE_S:g}s",
            )
            where = proxy.addresses[int(hog.tls)]
            async with Crowd(hog, where, CLIENTS, authority.file) as crowd:
                worst_s, count = await _probed(proxy, ground.pick(4.0, 1.0))
                books = await ground.books(proxy)
                assert ground.short or books[LATE_BUCKET] == books[ALL_BUCKET], "the loop's timers were late"
                await _ended(proxy)
        assert crowd.moved, "nothing was moved"
        return Measured(1000 * worst_s, f"at most of {count} probes, {crowd.moved / 1e6:,.0f} MB moved")

    play.__doc__ = (
        f"{CLIENTS} clients at full speed, {hog.name}: others are answered, and a SIGTERM ends in time"
    )
    return play


async def _probed(proxy: Process, for_s: float) -> tuple[float, int]:
    """Ask again and again, on a kept connection, on new ones and the admin port; return the longest wait."""
    loop = asyncio.get_running_loop()
    until, worst_s, count = loop.time() + for_s, 0.0, 0
    async with await Client.connect(proxy.addresses[0]) as kept:
        while loop.time() < until:
            async with (
                await Client.connect(proxy.addresses[0]) as fresh,
                await Client.connect(proxy.admin) as admin,
            ):
                for client, request in ((kept, PROBE), (fresh, PROBE), (admin, get("/livez"))):
                    began = loop.time()
                    answer = await client.ask(request)
                    worst_s, count = max(worst_s, loop.time() - began), count + 1
                    assert answer.status == 200
                    assert client is admin or answer.body == OK[-2:]
            await asyncio.sleep(PROBE_S)
    return worst_s, count


async def _ended(proxy: Process) -> None:
    """Have it end under all that, within its grace period."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    proxy.signal()
    assert await proxy.exit_code(PATIENCE_S) == 0
    assert loop.time() - began < GRACE_S, "it would have been killed"


for _hog in HOGS:
    row(f"hog: {_hog.name}", Evidence(series=LATE_BUCKET), most=100, unit="ms for others", timed=True)(
        _playing(_hog)
    )
