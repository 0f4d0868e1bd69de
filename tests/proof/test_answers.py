"""Reading one answer off a wire, at every byte boundary and with every end."""

import asyncio

import pytest

from drainproxy.proof.answers import Answer, read_answer
from drainproxy.proof.outcomes import Kind, LossError
from drainproxy.proof.wire import Wire

WHOLE = {
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "GET", Answer(200, True)),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", Answer(204, True)),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "GET", Answer(304, True)),
    "the head of it": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD", Answer(200, True)),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
        "GET",
        Answer(200, True),
    ),
    "chunks and trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\nSum: 1\r\nEnd: 2\r\n\r\n",
        "GET",
        Answer(200, True),
    ),
    "after interim answers": (
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
        ),
        "POST",
        Answer(201, True),
    ),
    "said to be the last": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: Keep, Close\r\n\r\nx",
        "GET",
        Answer(200, False),
    ),
    "of an old server": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "GET", Answer(200, False)),
    "of an old server that keeps": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx",
        "GET",
        Answer(200, True),
    ),
    "length said twice alike": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "GET",
        Answer(200, True),
    ),
}
every_whole = pytest.mark.parametrize(("raw", "method", "expected"), WHOLE.values(), ids=WHOLE.keys())


async def fed(wire: Wire, data: bytes, size: int) -> None:
    """Hand over `data` in pieces, giving the reader its turn after each."""
    for start in range(0, len(data), size):
        wire.feed_data(data[start : start + size])
        await asyncio.sleep(0)


def ended(wire: Wire, error: Exception | None) -> None:
    """End as asyncio's protocol does: by a FIN, or by what went wrong."""
    if error is None:
        wire.feed_eof()
    else:
        wire.set_exception(error)


async def loss_of(wire: Wire, method: str = "GET") -> LossError:
    with pytest.raises(LossError) as caught:
        await read_answer(wire, method=method)
    return caught.value


@every_whole
@pytest.mark.parametrize("size", [1, 2, 7, 4096])
async def test_an_answer_is_read_in_pieces_of_any_size(raw, method, expected, size):
    """An answer is the same whichever way its bytes are cut."""
    wire = Wire()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read_answer(wire, method=method))
        group.create_task(fed(wire, raw, size))
    assert reading.result() == expected
    assert wire.quiet


@every_whole
@pytest.mark.parametrize("error", [None, ConnectionResetError(104, "Connection reset by peer")])
async def test_an_answer_cut_anywhere_is_lost_and_never_mistaken_for_whole(raw, method, expected, error):
    """Not one byte is a reset, some bytes are a truncation, at every place an answer can be cut."""
    for length in range(len(raw)):
        wire = Wire()
        if length:
            wire.feed_data(raw[:length])
        ended(wire, error)
        loss = await loss_of(wire, method)
        assert loss.kind is (Kind.TRUNCATED if length else Kind.RESET)
        assert ("reset" if error else "closed") in loss.error


@every_whole
async def test_a_whole_answer_followed_by_a_reset_is_whole(raw, method, expected):
    """What came before a reset counts: the caller has its answer."""
    wire = Wire()
    wire.feed_data(raw)
    wire.set_exception(ConnectionResetError())
    answer = await read_answer(wire, method=method)
    assert answer == Answer(expected.status, False)


async def test_a_body_until_close_ends_with_the_connection():
    """Without a length only a FIN ends the body, and the connection is over with it."""
    wire = Wire()
    wire.feed_data(b"HTTP/1.1 200 OK\r\n\r\nhello")
    wire.feed_eof()
    assert await read_answer(wire, method="GET") == Answer(200, False)


async def test_a_body_until_close_that_is_reset_is_truncated():
    """A reset in a body without a length is the only visible cut there is."""
    wire = Wire()
    wire.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello")
    wire.set_exception(ConnectionResetError())
    assert (await loss_of(wire)).kind is Kind.TRUNCATED


async def test_bytes_after_the_answer_forbid_another_request():
    """Unasked bytes belong to nobody's request."""
    wire = Wire()
    wire.feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1")
    assert await read_answer(wire, method="GET") == Answer(200, False)


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 100 + b"\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 17,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
)
async def test_what_is_not_an_answer_is_invalid(raw):
    """Nonsense is a lost request with a kind of its own, and never waited on."""
    wire = Wire()
    wire.feed_data(raw)
    assert (await loss_of(wire)).kind is Kind.INVALID
