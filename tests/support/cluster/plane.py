"""What a data plane makes of a Service's slice: the addresses that it sends to, a lag after each change."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING

from tests.support.cluster.endpoints import chosen
from tests.support.cluster.resources import SLICES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.cluster.store import Store

NOBODY = ("127.0.0.1", 9)
"""Where nobody listens: a Service without an endpoint refuses."""


class Plane:
    """Picks one of the endpoints for each connection, as kube-proxy does, here in turn. Made by `plane`."""

    def __init__(self, store: Store, port: int, lag_s: float) -> None:
        self._store = store
        self._port = port
        self._lag_s = lag_s
        self._addresses: list[str] = []
        self._turns = itertools.count()

    def choose(self) -> tuple[str, int]:
        """Return where a connection leads."""
        if not self._addresses:
            return NOBODY
        return self._addresses[next(self._turns) % len(self._addresses)], self._port

    async def follow(self, namespace: str, slice_: str) -> None:
        """Follow a slice until cancelled."""
        loop = asyncio.get_running_loop()
        known: list[str] | None = None
        while True:
            version = self._store.version
            found = self._store.get(SLICES, namespace, slice_)
            addresses = chosen(found) if found else []
            if addresses != known:
                # The first state is where it begins.
                loop.call_later(0.0 if known is None else self._lag_s, self._take, addresses)
                known = addresses
            await self._store.changes(version)

    def _take(self, addresses: list[str]) -> None:
        self._addresses = addresses


@contextlib.asynccontextmanager
async def plane(
    store: Store, port: int, lag_s: float, *, namespace: str = "default", slice_: str = "web-abcde"
) -> AsyncIterator[Plane]:
    """Run one; it knows the present endpoints when the block begins."""
    it = Plane(store, port, lag_s)
    following = asyncio.ensure_future(it.follow(namespace, slice_))
    try:
        while it.choose() is NOBODY:
            await asyncio.sleep(0.01)
        yield it
    finally:
        following.cancel()
