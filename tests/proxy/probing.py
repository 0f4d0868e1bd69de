"""Who looks whether an application is there, for tests of one that falls."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from drainproxy.errors import UpstreamRefused
from drainproxy.proxy.upstream.probe import Probe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from drainproxy.proxy.warmup import Warmup
    from tests.support.house import House


@contextlib.asynccontextmanager
async def probed(house: House, warmup: Warmup | None = None) -> AsyncIterator[Probe]:
    """With somebody who looks whether the application is there."""
    probe = Probe([house.pool], None, house.controller, house.metrics)
    probe.warmup = warmup
    task = asyncio.get_running_loop().create_task(probe.run())
    try:
        yield probe
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def reserved(port: int) -> Iterator[None]:
    """Keep a port for an application that comes back: nobody else gets it, and nobody listens."""
    with socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        wire.bind(("127.0.0.1", port))
        yield


async def noticed(house: House) -> None:
    """Have somebody be refused by the application."""
    with pytest.raises(UpstreamRefused):
        await house.pool.connect(house.loop.time() + 5)
