"""The bounds of the admin port."""

from __future__ import annotations

import asyncio
import contextlib

from drainproxy.admin import door
from tests.admin.premises import PATIENCE_S, Call, Premises


async def linger(premises: Premises) -> Call:
    """Ask once and stay connected; return when the server has answered, so that it has the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", premises.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        await reader.readuntil(b"alive\n")
    return Call(reader, writer)


def narrow(premises: Premises, most: int) -> None:
    """Let the admin port have so few connections of others than the node."""
    premises.admin._doors[0]._others._most = most


async def test_the_oldest_idle_connection_gives_way_to_a_probe(premises):
    """A crowd that says nothing must not make the kubelet restart the pod."""
    narrow(premises, 3)
    oldest, *others = [await linger(premises) for _ in range(3)]
    probe = await linger(premises)
    assert await oldest.closed_without_answer()
    for call in (*others, probe):
        await call.hang_up()


async def test_a_crowd_takes_no_place_of_the_nodes(tmp_path, monkeypatch):
    """Whatever comes from elsewhere, and however much of it, the kubelet's connections stay and get in."""
    monkeypatch.setattr(door, "MAX_CONNECTIONS", 8)
    premises = Premises(tmp_path, node=frozenset(("127.0.0.1",)))
    await premises.open()
    probe = await linger(premises)
    silent = [
        await asyncio.open_connection("127.0.0.1", premises.port, local_addr=(f"127.0.1.{number % 9}", 0))
        for number in range(200)
    ]
    assert (await premises.ask("GET /readyz")).status == 200
    assert await probe.still_answers()
    await probe.hang_up()
    await premises.close()
    for _, writer in silent:
        writer.transport.abort()


async def test_who_comes_by_the_thousand_pushes_out_nobody_but_itself(premises):
    """The address with most connections gives its oldest away."""
    narrow(premises, 8)
    others = [await linger(premises) for _ in range(3)]
    crowd = [
        await asyncio.open_connection("127.0.0.1", premises.port, local_addr=("127.0.0.2", 0))
        for _ in range(100)
    ]
    for reader, _ in crowd[:-5]:
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.read() == b""
    for call in others:
        assert await call.still_answers()
        await call.hang_up()
    for _, writer in crowd:
        writer.transport.abort()


async def test_nothing_is_made_for_a_connection_that_says_nothing(premises):
    """A neighbour opens thousands a second; a parser and a task for each would cost a probe its time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", premises.port)
    await premises.ask("GET /livez")
    assert premises.admin._doors[0].connections == []
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        await reader.readuntil(b"alive\n")
    assert len(premises.admin._doors[0].connections) == 1
    await Call(reader, writer).hang_up()


async def test_a_connection_that_never_speaks_is_given_up(tmp_path, monkeypatch):
    """By the clock of idle ones."""
    monkeypatch.setattr(door, "KEEPALIVE_S", 0.05)
    premises = Premises(tmp_path)
    await premises.open()
    assert await Call(*await asyncio.open_connection("127.0.0.1", premises.port)).closed_without_answer()
    await premises.close()


async def test_a_waiting_hook_gives_way_to_nobody(premises):
    """It is the oldest by design."""
    narrow(premises, 2)
    hook = await premises.hook()
    idle = [await linger(premises) for _ in range(4)]
    for call in idle[:-1]:
        assert await call.closed_without_answer()
    premises.sigterm()
    premises.finish()
    assert (await hook.answer()).text == "drained\n"
    await idle[-1].hang_up()


async def test_a_head_that_does_not_end_is_given_up(tmp_path, monkeypatch):
    """The same clock closes idle connections."""
    monkeypatch.setattr(door, "KEEPALIVE_S", 0.05)
    premises = Premises(tmp_path)
    await premises.open()
    reader, writer = await asyncio.open_connection("127.0.0.1", premises.port)
    writer.write(b"GET /livez HTTP/1.1\r\nX-Slow: ")
    call = Call(reader, writer)
    assert await call.closed_without_answer()
    await premises.close()


async def test_pipelined_requests_are_answered_in_order(premises):
    """On one connection, which the last of them closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", premises.port)
    first = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    writer.write(first + last)
    async with asyncio.timeout(PATIENCE_S):
        raw = await reader.read()
    writer.close()
    assert raw.count(b"HTTP/1.1 ") == 2
    assert raw.index(b"200 OK") < raw.index(b"404 Not Found")


async def test_a_body_that_nobody_reads_does_not_hold_the_answer(premises):
    """It is not waited for, and the connection ends."""
    head = "Host: localhost\r\nContent-Length: 1000000"
    assert (await premises.ask("POST /livez", head=head)).status == 405
