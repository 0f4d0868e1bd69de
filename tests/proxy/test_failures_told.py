"""Which failures are the callers': what /status draws as errors, whoever made them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.admin.recent import Recent
from tests.support.house import House
from tests.support.upstream import Upstream
from tests.support.words import GET, OK, get

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


async def answered(house: House, upstream: Upstream, answer: bytes) -> None:
    """The application gives a whole answer."""
    client = await house.client()
    await client.send(GET)
    connection = await upstream.connection()
    await connection.read_request()
    await connection.send(answer)
    await client.final()


async def is_well(house: House, upstream: Upstream) -> None:
    """A 200."""
    await answered(house, upstream, OK)


async def fails(house: House, upstream: Upstream) -> None:
    """A 500 of the application's."""
    await answered(house, upstream, FAILED)


async def breaks_off(house: House, upstream: Upstream) -> None:
    """The application goes away in the middle of an answer whose status was good."""
    client = await house.client()
    await client.send(GET)
    connection = await upstream.connection()
    await connection.read_request()
    await connection.send(CHUNKED)
    assert (await client.read_to(b"hello\r\n")).endswith(b"hello\r\n")
    connection.reset()
    await client.read_until_close()


async def goes_away(house: House, upstream: Upstream) -> None:
    """The application goes away before it answers: 502."""
    client = await house.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
    connection = await upstream.connection()
    await connection.read_request()
    connection.reset()
    await client.final()


async def is_turned_away(house: House, upstream: Upstream) -> None:
    """There is no room: 503."""
    house.buffers.room_bytes = 0
    client = await house.client()
    await client.send(GET)
    await client.final()


async def asks_badly(house: House, upstream: Upstream) -> None:
    """The client's own mistake: 400."""
    client = await house.client()
    await client.send(b"GET / HTTP/1.1\r\n\r\n")
    await client.final()


async def speaks_too_new(house: House, upstream: Upstream) -> None:
    """The client's own mistake, with a status of 500 or more: 505."""
    client = await house.client()
    await client.send(b"GET / HTTP/3.0\r\nHost: a\r\n\r\n")
    assert (await client.final()).status == 505


async def leaves(house: House, upstream: Upstream) -> None:
    """The client does not wait for its answer."""
    client = await house.client()
    await client.send(get("/slow"))
    connection = await upstream.connection()
    await connection.read_request()
    client.close()
    await connection.read_until_close()


CASES: dict[str, tuple[Callable[[House, Upstream], Awaitable[None]], int]] = {
    "answered": (is_well, 0),
    "500": (fails, 1),
    "broke off": (breaks_off, 1),
    "502": (goes_away, 1),
    "503": (is_turned_away, 1),
    "400": (asks_badly, 0),
    "505": (speaks_too_new, 0),
    "client gone": (leaves, 0),
}


@pytest.mark.parametrize(("case", "failures"), CASES.values(), ids=CASES.keys())
async def test_failures_are_the_callers(case, failures):
    """Each once: by the status that says so, or because no status does."""
    async with Upstream() as upstream, House(upstream) as house:
        controller: Any = SimpleNamespace(arrival_rate=house.controller.arrival_rate)
        recent = Recent(controller, house.metrics, [house.plane.accounting])
        room = house.buffers.room_bytes
        await case(house, upstream)
        await house.until(lambda: not len(house.inflight))
        house.buffers.room_bytes = room
        assert recent._count()[2] == failures
