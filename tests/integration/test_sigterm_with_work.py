"""SIGTERM while a request is under way: it is finished, to the last byte, in both directions."""

from __future__ import annotations

import asyncio

from tests.integration.scene import DATE, OK, OK_CLOSE, entered, get, held, report, stopped, until
from tests.support.message import Ending
from tests.support.wire import End

PIECE = bytes(range(256)) * 64
"""16 KiB in which every shift and every loss shows."""
PIECES = 50


async def test_a_response_that_is_not_there_yet_is_waited_for(start, upstream):
    """The application answers after the signal, and the client gets all of it and `Connection: close`."""
    proxy = await start(upstream)
    client, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    assert await client.read_eof() is End.FIN
    client.close()
    assert await proxy.exit_code() == 0
    assert (await report(proxy, finished=1))["in_flight_at_start"] == 1


FRAMINGS = {
    "length": (b"Content-Length: %d\r\n" % (len(PIECE) * PIECES), b"%b"),
    "chunked": (b"Transfer-Encoding: chunked\r\n", b"4000\r\n%b\r\n"),
    "until close": (b"Connection: close\r\n", b"%b"),
}


async def test_a_streamed_body_that_is_half_read_arrives_whole(start, upstream):
    """50 pieces of 16 KiB, 20 of them before the signal, in each of the three framings."""
    proxy = await start(upstream)
    streams = {}
    for framing, (field, piece) in FRAMINGS.items():
        client, application = await held(proxy, upstream, get("/" + framing.replace(" ", "-")))
        await application.send(b"HTTP/1.1 200 OK\r\n" + DATE + field + b"\r\n")
        for _ in range(20):
            await application.send(piece % PIECE)
        # Half of what was sent is read; the rest lies in buffers on its way when the signal comes.
        head = await client.read_to(b"\r\n\r\n")
        begun = await client.read_exactly(10 * len(PIECE))
        streams[framing] = (client, application, head, begun)
    proxy.signal()
    await proxy.line("phase", phase="draining")

    async def go_on(framing: str) -> None:
        client, application, head, begun = streams[framing]
        writing = asyncio.ensure_future(_send_rest(application, framing))
        body = await _read_stream(client, framing, begun)
        await writing
        assert body == PIECE * PIECES, framing
        assert head.startswith(b"HTTP/1.1 200 OK\r\n" + DATE), framing
        # Its head was sent before the drain, so nothing announced the close.
        assert await client.read_eof() is End.FIN
        client.close()

    async with asyncio.TaskGroup() as group:
        for framing in FRAMINGS:
            group.create_task(go_on(framing))
    assert await proxy.exit_code() == 0
    await report(proxy, finished=3)


async def _send_rest(application, framing: str) -> None:
    for _ in range(PIECES - 20):
        await application.send(FRAMINGS[framing][1] % PIECE)
    if framing == "chunked":
        await application.send(b"0\r\n\r\n")
    application.half_close()


async def _read_stream(client, framing: str, begun: bytes) -> bytes:
    """Return the whole payload; `begun` are the wire's first bytes after the head."""
    client.received[:0] = begun
    if framing == "length":
        return await client.read_exactly(len(PIECE) * PIECES)
    # Close-delimited bodies become chunked for a 1.1 client.
    body = b""
    while size := int(await client.read_to(b"\r\n"), 16):
        body += (await client.read_exactly(size + 2))[:-2]
    assert await client.read_to(b"\r\n") == b"\r\n"
    return body


async def test_an_upload_that_is_half_sent_reaches_the_application_whole(start, upstream):
    """A chunked and a counted request body, half of each sent after the signal."""
    proxy = await start(upstream)
    uploads = []
    for field, first, second in (
        ("Transfer-Encoding: chunked", b"4000\r\n" + PIECE + b"\r\n", b"4000\r\n" + PIECE + b"\r\n0\r\n\r\n"),
        (f"Content-Length: {2 * len(PIECE)}", PIECE, PIECE),
    ):
        client = await proxy.client()
        await client.send(f"POST / HTTP/1.1\r\nHost: test\r\n{field}\r\n\r\n".encode() + first)
        application = await upstream.connection_with_bytes()
        # In the application: the head and the first piece's last byte.
        while not application.received.endswith((PIECE[-64:], PIECE[-64:] + b"\r\n")):
            assert await application.more()
        uploads.append((client, application, second))
    proxy.signal()
    await proxy.line("phase", phase="draining")
    for client, application, second in uploads:
        await client.send(second)
        request = await application.read_request()
        assert request.ending is Ending.COMPLETE
        assert request.body == 2 * PIECE
        await application.send(OK)
        assert (await client.final("POST")).raw == OK_CLOSE
        client.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=2)


async def test_an_upload_that_waits_for_its_100_gets_it(start, upstream):
    """`Expect: 100-continue` in the application at the signal: interim answer, body and answer follow."""
    proxy = await start(upstream)
    client = await proxy.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    application = await upstream.connection_with_bytes()
    await application.read_head()
    proxy.signal()
    await proxy.line("phase", phase="draining")
    await application.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert (await client.read_response("POST")).raw == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"body")
    assert await application.read_exactly(4) == b"body"
    await application.send(OK)
    assert (await client.final("POST")).raw == OK_CLOSE
    client.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=1)


async def test_a_pipelined_pair_is_answered_and_only_the_last_closes(start, upstream):
    """Both requests were sent before the signal: `close` on the first would throw the second away."""
    proxy = await start(upstream)
    client, application = await held(proxy, upstream, get("/first") + get("/second"))
    proxy.signal()
    await proxy.line("phase", phase="draining")
    await application.send(OK)
    assert (await client.final()).raw == OK
    second = await application.read_request()
    assert second.start == b"GET /second HTTP/1.1"
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    assert await client.read_eof() is End.FIN
    client.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=2, late=1)


async def test_an_answer_that_the_client_has_not_read_is_waited_for(start, upstream):
    """The application is done, the client reads slowly: what lies in the proxy is not thrown away."""
    proxy = await start(upstream)
    body = PIECE * 512
    client = await proxy.client(receive_buffer=4096)
    await client.send(get())
    application = await entered(upstream)
    await application.send(b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: %d\r\n\r\n" % len(body))
    sending = asyncio.ensure_future(application.send(body))
    begun = await client.read_to(b"\r\n\r\n")
    assert begun.endswith(b"Content-Length: %d\r\n\r\n" % len(body))
    proxy.signal()
    await proxy.line("phase", phase="draining")
    # Longer than `settle`: an idle drain would be over.
    await asyncio.sleep(0.3)
    assert await client.read_exactly(len(body)) == body
    await sending
    assert await client.read_eof() is End.FIN
    client.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=1)


async def test_an_answer_in_the_kernel_on_both_sides_of_a_pause_is_delivered(start, upstream):
    """The process stands still while signal, answer and the client's next request come in together."""
    proxy = await start(upstream)
    client, application = await held(proxy, upstream)
    async with stopped(proxy):
        proxy.signal()
        await application.send(OK)
        await client.send(get("/next"))
    first = await client.final()
    assert first.raw in {OK, OK_CLOSE}
    if first.raw == OK:
        assert (await application.read_request()).start == b"GET /next HTTP/1.1"
        await application.send(OK)
        assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await proxy.exit_code() == 0
    assert (await proxy.line("drain_report"))["requests"]["lost"] == 0


async def test_a_client_that_leaves_during_the_drain_does_not_hold_it(start, upstream):
    """Its request is taken back from the application, and nobody waits for the answer."""
    proxy = await start(upstream)
    client, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    client.reset()
    assert not await application.more()
    assert await proxy.exit_code() == 0
    await report(proxy)
    await until(lambda: proxy.lines[-1]["event"] == "exit", "no last line")
