"""Ends of pods, one of each kind, by real requests: what a drain's numbers are made of."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tests.integration.scene import OK, OK_CLOSE, events, get, held

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.integration.application import Application
    from tests.support.process import Proxy

QUICK = {"settle": "50ms", "linger": "100ms", "propagation": "none", "leave_spread": "0s"}
SOON = {**QUICK, "grace_period": "4s", "app_stop": "100ms", "reserve": "3s", "refuse_window": "0s"}
"""The deadline is 0.9 s after the signal, and a push may take 1.5 s."""
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf."
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def idle(proxy: Proxy, _upstream: Application) -> None:
    """Nobody is there."""
    proxy.signal()


async def finished(proxy: Proxy, upstream: Application) -> None:
    client, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    client.close()


async def cut(proxy: Proxy, upstream: Application) -> None:
    """Three answers were half sent at the deadline."""
    clients = []
    for _ in range(3):
        client, application = await held(proxy, upstream)
        await application.send(HEAD)
        await client.read_to(b"half.")
        clients.append(client)
    proxy.signal()
    for client in clients:
        await client.read_until_close()


async def timed_out(proxy: Proxy, upstream: Application) -> None:
    """Two had no answer by the deadline."""
    clients = [(await held(proxy, upstream))[0] for _ in range(2)]
    proxy.signal()
    for client in clients:
        assert (await client.final()).status == 503


async def refused(proxy: Proxy, upstream: Application) -> None:
    """One is waited for, four others come too late."""
    busy, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    for _ in range(4):
        client = await proxy.client()
        assert (await client.ask(get())).status == 503
        client.close()
    await application.send(OK)
    await busy.final()
    busy.close()


async def lost(proxy: Proxy, upstream: Application) -> None:
    client, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    application.reset()
    assert (await client.final()).status == 502


async def told_to_leave(proxy: Proxy, upstream: Application) -> None:
    client, application = await held(proxy, upstream, get("/", "Accept: text/event-stream"))
    await application.send(EVENTS)
    await client.read_head()
    proxy.signal()
    await client.read_until_close()


async def capped(proxy: Proxy, upstream: Application) -> None:
    """Callers go on coming, for a while after the cap too."""
    proxy.signal()
    await proxy.line("phase", phase="propagating")
    beyond = itertools.count()
    while events(proxy, "phase")[-1]["phase"] == "propagating" or next(beyond) < 4:
        client, application = await held(proxy, upstream)
        await application.send(OK_CLOSE)
        assert (await client.final()).status == 200
        client.close()


CAP = {"propagation": "cluster", "propagation_min": "100ms", "propagation_quiet": "2s", "settle": "2s"} | {
    "propagation_max": "500ms", "sparse_min": "100ms",
}  # fmt: skip
Ending = tuple["Callable[[Proxy, Application], Awaitable[None]]", dict[str, str]]
ENDS: dict[str, Ending] = {
    "idle": (idle, QUICK),
    "finished": (finished, QUICK),
    "cut": (cut, SOON),
    "timed-out": (timed_out, SOON),
    "refused": (refused, QUICK | {"refuse_window": "60s"}),
    "lost": (lost, QUICK),
    "told": (told_to_leave, QUICK),
    "capped": (capped, QUICK | CAP),
    # Each number of its is scraped as well, at least once.
    "seen": (lost, QUICK | {"final_scrape_wait": "10s"}),
}


def pod_of(workload: str, number: int = 0) -> str:
    """A pod's name, as a Deployment's ReplicaSet makes it."""
    safe = "bcdfghjklmnpqrstvwxz"
    return f"{workload}-6d5f7b9c8d-x{safe[number // 20]}{safe[number % 20]}z4"
