"""A Service's front door: one address; each connection goes to a pod that was ready a while ago."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from tests.support.cluster.endpoints import chosen
from tests.support.cluster.resources import SLICES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.cluster.store import Store

Address = tuple[str, int]


@contextlib.asynccontextmanager
async def front(
    store: Store, port: int, lag_s: float, came: asyncio.Event | None = None
) -> AsyncIterator[Address]:
    """Serve one whose endpoints follow the slices of `web`, `lag_s` late. `came`: set once somebody has."""
    version = store.version
    while not (ready := _ready(store)):
        await store.changes(version)
        version = store.version

    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if came is not None:
            came.set()
        task = asyncio.ensure_future(_serve(reader, writer, random.choice(ready), port))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    following = asyncio.ensure_future(_follow(store, ready, lag_s))
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        for task in (tasks := [following, *serving]):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ip: str, port: int) -> None:
    """Carry bytes both ways; whoever resets a connection resets the other."""
    back = None
    try:
        there, back = await asyncio.open_connection(ip, port)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pump(reader, back))
            group.create_task(_pump(there, writer))
        for side in (writer, back):
            side.close()
            await side.wait_closed()
    except* OSError:
        pass
    finally:
        writer.transport.abort()
        if back is not None:
            back.transport.abort()


async def _follow(store: Store, ready: list[str], lag_s: float) -> None:
    def know(addresses: list[str]) -> None:
        ready[:] = addresses

    while True:
        version = store.version
        asyncio.get_running_loop().call_later(lag_s, know, _ready(store))
        await store.changes(version)


def _ready(store: Store) -> list[str]:
    found = store.get(SLICES, "default", "web-abcde")
    return list(chosen(found)) if found else []


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
