"""The bounds of the admin port."""

from __future__ import annotations

import asyncio

from drainproxy.admin import door
from tests.admin.premises import PATIENCE_S, Call, Premises


async def linger(premises: Premises) -> Call:
    """Ask once and stay connected; return when the server has answered, so that it has the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", premises.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        await reader.readuntil(b"alive\n")
    return Call(reader, writer)


async def test_the_oldest_idle_connection_gives_way_to_a_probe(premises, monkeypatch):
    """A crowd that says nothing must not make the kubelet restart the pod."""
    monkeypatch.setattr(door, "MAX_CONNECTIONS", 3)
    oldest, *others = [await linger(premises) for _ in range(3)]
    probe = await linger(premises)
    assert await oldest.closed_without_answer()
    for call in (*others, probe):
        await call.hang_up()


async def test_a_waiting_hook_gives_way_to_nobody(premises, monkeypatch):
    """It is the oldest by design."""
    monkeypatch.setattr(door, "MAX_CONNECTIONS", 2)
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
