"""ChunkedBody: every cut of a good stream gives the same payload; a broken stream is broken for h11 too.

h11 is the oracle: whatever this reader accepts, h11 accepts with the same payload. It may be stricter.
"""

from __future__ import annotations

import itertools
import re
import time

import h11
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from drainproxy.proxy.message.framing import (
    JOINED_BYTES,
    LAST_CHUNK,
    MAX_CHUNK_LINE_BYTES,
    MAX_TRAILER_BYTES,
    MAX_TRAILERS,
    ChunkedBody,
    UntilCloseBody,
    chunk,
    chunked,
)
from drainproxy.proxy.wire.run_queue import READ_BUDGET

BEHIND = b"GET / HTTP/1.1\r\n"

GOOD = {
    "nothing": (b"0\r\n\r\n", b""),
    "one chunk": (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    "two chunks": (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
    "chunks of one size, and of it otherwise": (
        b"1\r\na\r\n1\r\nb\r\n01\r\nc\r\n1;x\r\nd\r\n1\r\ne\r\n10\r\n0123456789abcdef\r\n1\r\nf\r\n0\r\n\r\n",
        b"abcde0123456789abcdeff",
    ),
    "leading zeros": (b"0003\r\nabc\r\n000\r\n\r\n", b"abc"),
    "hex in both cases": (b"0A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    "payload that looks like framing": (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    "an extension": (b"1;a\r\nx\r\n0;b=c\r\n\r\n", b"x"),
    "a quoted extension": (b'1;a="b;c\\"\r"\r\nx\r\n0\r\n\r\n'.replace(b"\r", b" ", 1), b"x"),
    "an extension with blanks": (b"1 ; a = b\r\nx\r\n0\r\n\r\n", b"x"),
    "a trailer": (b"1\r\nx\r\n0\r\nA: b\r\n\r\n", b"x"),
}


@pytest.mark.parametrize("way", ["whole", "bytewise", "with more behind"])
@pytest.mark.parametrize(("raw", "payload"), GOOD.values(), ids=GOOD)
def test_a_good_stream_gives_its_payload(raw: bytes, payload: bytes, way: str) -> None:
    """However it comes, and no byte behind it is taken."""
    body = ChunkedBody()
    if way == "bytewise":
        assert bytewise(body, raw) == payload
    else:
        behind = BEHIND if way == "with more behind" else b""
        assert body.feed(raw + behind) == (payload, behind)


BROKEN = {
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a size that is no number": b"g\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-1\r\nabc\r\n0\r\n\r\n",
    "a size with a sign": b"+1\r\na\r\n0\r\n\r\n",
    "a size with a prefix": b"0x1\r\na\r\n0\r\n\r\n",
    "a size with an underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    "a blank before the size": b" 1\r\na\r\n0\r\n\r\n",
    "a blank after the size": b"1 \r\na\r\n0\r\n\r\n",
    "a size over 64 bits": b"10000000000000001\r\na\r\n0\r\n\r\n",
    "a size of sixteen digits": b"ffffffffffffffff\r\na\r\n0\r\n\r\n",
    "LF after the size": b"1\na\r\n0\r\n\r\n",
    "CR after the size": b"1\ra\r\n0\r\n\r\n",
    "LF after the data": b"1\r\na\n0\r\n\r\n",
    "CR after the data": b"1\r\na\r0\r\n\r\n",
    "nothing after the data": b"1\r\na0\r\n\r\n",
    "a chunk longer than its size": b"1\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than its size, which was right before": b"1\r\na\r\n1\r\nbc\r\n0\r\n\r\n",
    "a chunk shorter than its size, which was right before": b"2\r\nab\r\n2\r\nc\r\n0\r\n\r\n",
    "a chunk shorter than its size": b"9\r\nabc\r\n0\r\n\r\n",
    "LF as the end": b"1\r\na\r\n0\r\n\n",
    "LF after the last size": b"1\r\na\r\n0\n\r\n",
    "NUL in an extension": b"1;a=\0\r\na\r\n0\r\n\r\n",
    "CR in an extension": b"1;a\rb\r\na\r\n0\r\n\r\n",
    "LF in a quoted extension": b'1;a="\n"\r\na\r\n0\r\n\r\n',
    "a trailer without a colon": b"0\r\nabc\r\n\r\n",
    "a trailer without a name": b"0\r\n: x\r\n\r\n",
    "a blank before a trailer's colon": b"0\r\na : x\r\n\r\n",
    "a folded trailer": b"0\r\na: x\r\n y\r\n\r\n",
    "NUL in a trailer": b"0\r\na: \0\r\n\r\n",
    "CR in a trailer": b"0\r\na: b\rc\r\n\r\n",
    "LF after a trailer": b"0\r\na: b\n\r\n",
    "a chunk after the last": b"0\r\n1\r\na\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("way", ["whole", "bytewise"])
@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_a_broken_stream_is_refused(raw: bytes, way: str) -> None:
    """The request it belongs to is never completed: two readers could disagree where it ends."""
    verdict = verdict_bytewise if way == "bytewise" else verdict_whole
    assert verdict(raw)[0] == "refused"


# Limits.


@pytest.mark.parametrize("fed", ["whole", "endless"])
def test_a_size_line_is_bounded(fed: str) -> None:
    """An extension may not be longer than a few pages, finished or not."""
    line = b"1;a=" + b"b" * MAX_CHUNK_LINE_BYTES
    with pytest.raises(ValueError, match="too long"):
        ChunkedBody().feed(line + (b"\r\na\r\n0\r\n\r\n" if fed == "whole" else b""))


def test_trailers_are_bounded_together() -> None:
    """Many small ones are as bad as a big one."""
    body = ChunkedBody()
    body.feed(b"0\r\n")
    line = b"a: " + b"b" * 197 + b"\r\n"
    for _ in range(MAX_TRAILER_BYTES // 200):
        body.feed(line)
    with pytest.raises(ValueError, match="too many"):
        body.feed(line)


def test_trailers_are_bounded_in_number() -> None:
    """Each takes more than its bytes: 32 KiB of the smallest held 371 KB."""
    body = ChunkedBody()
    body.feed(b"0\r\n" + b"a:\r\n" * MAX_TRAILERS)
    assert body.held_bytes < 8 * 1024
    with pytest.raises(ValueError, match="too many"):
        body.feed(b"a:\r\n")


def test_a_trailer_is_bounded() -> None:
    """One that never ends is not waited for."""
    body = ChunkedBody()
    with pytest.raises(ValueError, match="too long"):
        body.feed(b"0\r\na: " + b"b" * MAX_TRAILER_BYTES)


@pytest.mark.parametrize("bad", [b"\0", b"\x01\r"])
def test_a_trailer_of_blanks_costs_no_time(bad: bytes) -> None:
    """A line made to send a reader back and forth is refused at once, however long it is."""
    begun = time.process_time()
    assert verdict_whole(b"0\r\na:" + b" " * 600 + bad + b"\r\n\r\n")[0] == "refused"
    assert time.process_time() - begun < 0.1


@pytest.mark.parametrize(
    "line",
    [
        b"1;a" + b" " * 4000 + b"\0",
        b'1;a="' + b"\\a" * 2000 + b"\0",
        b"1" + b" ;a " * 1000 + b"\0",
        b"1" + b" ; a = a " * 450 + b"\0",
        b"1;" + b"a" * 4000 + b"\0",
    ],
)
def test_an_extension_costs_no_time(line: bytes) -> None:
    """Extensions are read over in one pass."""
    begun = time.process_time()
    assert verdict_whole(line + b"\r\n")[0] == "refused"
    assert time.process_time() - begun < 0.1


# Trailers.


def test_trailers_are_kept_in_order_and_stripped_of_blanks() -> None:
    """As they will be sent: letter case kept, framing of the line written afresh."""
    body = ChunkedBody()
    body.feed(b"0\r\nX-b:  1 \r\nx-A:2\r\nX-b:\r\n\r\n")
    assert body.trailers == [b"X-b: 1\r\n", b"x-A: 2\r\n", b"X-b: \r\n"]


def test_a_chunk_is_its_size_in_hex_and_its_bytes() -> None:
    """What is sent on is written afresh."""
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


LARGE = bytes(range(256)) * 1024


def test_a_large_chunk_is_passed_on_where_it_lies() -> None:
    """Nothing of it is copied: a line and an end of ours around each piece of what was read."""
    body = ChunkedBody()
    data = chunk(LARGE) + b"%x;a=b\r\n" % len(LARGE) + LARGE[:-1]
    pieces, size, rest = chunked(body, data)
    assert (size, rest) == (2 * len(LARGE) - 1, None)
    assert b"".join(pieces) == chunk(LARGE) + chunk(LARGE[:-1])
    assert [piece.obj is data for piece in pieces if isinstance(piece, memoryview)] == [True, True]
    pieces, size, rest = chunked(body, LARGE[-1:] + b"\r\n0\r\n\r\nGET")
    assert (b"".join(pieces), size, rest) == (chunk(LARGE[-1:]), 1, b"GET")


def test_chunks_are_put_together_up_to_what_a_reader_holds_easily() -> None:
    """Readers make an object of each chunk: what a client sends in pieces of 64 KiB does not become 256."""
    piece = b"x" * JOINED_BYTES
    pieces, size, _ = chunked(ChunkedBody(), chunk(piece) * 3 + b"10000\r\n" + piece[:-1])
    assert b"".join(pieces) == chunk(piece) * 3 + chunk(piece[:-1])
    assert size == 4 * JOINED_BYTES - 1
    half = b"y" * (JOINED_BYTES // 2)
    pieces, _, _ = chunked(ChunkedBody(), chunk(half) * 4 + chunk(b"z") + chunk(piece + b"x") + chunk(b"z"))
    assert b"".join(pieces) == chunk(half * 2) * 2 + chunk(b"z") + chunk(piece + b"x") + chunk(b"z")


def test_small_chunks_do_not_keep_what_they_were_read_in() -> None:
    """Of a read of tiny chunks less than a half is payload: a copy of that waits for the application."""
    body = ChunkedBody()
    data = chunk(b"a") * 10_000
    pieces, size, rest = chunked(body, data)
    assert (pieces, rest) == ([chunk(b"a" * READ_BUDGET)], None)
    assert (size, body.backlog) == (READ_BUDGET, len(data) - 6 * READ_BUDGET)


def test_a_body_that_is_not_chunked_is_one_chunk_for_each_read() -> None:
    """What ends with its connection; nothing is no chunk, which would be the last one."""
    assert chunked(UntilCloseBody(), b"abc") == ([b"3\r\n", b"abc", b"\r\n"], 3, None)
    assert chunked(UntilCloseBody(), b"") == ([], 0, None)
    assert chunked(ChunkedBody(), b"3\r\n") == ([], 0, None)
    assert chunked(ChunkedBody(), b"0\r\n\r\n") == ([], 0, b"")


# Properties.

_extension = st.sampled_from([b"", b";a", b";a=b", b';a="b c"'])
_chunk = st.tuples(st.binary(min_size=1, max_size=40), _extension, st.sampled_from(["%x", "%X", "0%x"]))
_trailers = st.lists(st.sampled_from([b"A: b\r\n", b"X-Long: " + b"y" * 30 + b"\r\n", b"z:\r\n"]), max_size=3)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A good stream and its payload."""
    raw, payload = b"", b""
    for data, extension, form in draw(st.lists(_chunk, max_size=4)):
        raw += (form % len(data)).encode() + extension + b"\r\n" + data + b"\r\n"
        payload += data
    return raw + b"0\r\n" + b"".join(draw(_trailers)) + b"\r\n", payload


@given(streams(), st.lists(st.integers(0, 200), max_size=6), st.binary(max_size=5))
def test_any_cut_of_a_good_stream_gives_the_same_payload(
    stream: tuple[bytes, bytes], cuts: list[int], behind: bytes
) -> None:
    """Cut anywhere, with anything behind it."""
    raw, payload = stream
    got, rest = b"", None
    body = ChunkedBody()
    edges = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    for start, stop in itertools.pairwise(edges):
        assert rest is None
        piece, rest = body.feed(raw[start:stop] + (behind if stop == len(raw) else b""))
        got += piece
        if rest is not None:
            break
    assert (got, rest) == (payload, behind)


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A good stream with a few bytes changed, added or taken away."""
    raw = bytearray(draw(streams())[0])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        fresh = draw(st.sampled_from(b'\r\n\0 \t0129aAfFgxX;:="-+_\x0b\x80'))
        what = draw(st.sampled_from(["change", "add", "take"]))
        if what == "add":
            raw.insert(at, fresh)
        elif raw and what == "take":
            del raw[at]
        elif raw:
            raw[at] = fresh
    return bytes(raw)


@settings(max_examples=500)
@given(mutants())
@example(b"1;a\r\nx\r\n0\r\n\r\n")
def test_what_is_accepted_is_accepted_by_h11_with_the_same_payload(raw: bytes) -> None:
    """No stream has two readings: where this reader sees an end, h11 sees the same body."""
    # RFC 9112 section 7.1.1 allows blanks around an extension's marks; h11 does not.
    assume(not re.search(rb"[ \t][;=]|[;=][ \t]", raw))
    body = ChunkedBody()
    try:
        payload, rest = body.feed(raw)
    except ValueError:
        return
    theirs, end = by_h11(raw)
    assert theirs == payload
    assert end == (rest is not None)


@given(streams(), st.lists(st.integers(0, 200), max_size=6), st.sampled_from([b"", BEHIND * 2000]))
def test_what_is_sent_on_is_read_as_what_came(
    stream: tuple[bytes, bytes], cuts: list[int], behind: bytes
) -> None:
    """However it is cut, and in a read so large that nothing is copied: h11 reads the same body in it."""
    raw, payload = stream
    body, out = ChunkedBody(), b""
    edges = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    for start, stop in itertools.pairwise(edges):
        pieces, size, rest = chunked(body, raw[start:stop] + (behind if stop == len(raw) else b""))
        made = b"".join(pieces)
        assert made == (chunk(payload[:size]) if size else b"")
        payload, out = payload[size:], out + made
    assert (payload, rest) == (b"", behind)
    assert by_h11(out + LAST_CHUNK) == (stream[1], True)


@settings(max_examples=50)
@given(st.lists(st.sampled_from([1, 1_000, 30_000, 65_535, 65_536, 65_537, 200_000]), max_size=8), st.data())
def test_large_chunks_are_read_as_what_came(sizes: list[int], draw: st.DataObject) -> None:
    """However large they are and wherever they are cut: h11 reads the same body, in chunks of what came."""
    payload = b"".join(b"%c" % (65 + at) * size for at, size in enumerate(sizes))
    raw = b"".join(chunk(b"%c" % (65 + at) * size) for at, size in enumerate(sizes)) + LAST_CHUNK
    cuts = draw.draw(st.lists(st.integers(0, len(raw)), max_size=3))
    body, out, end = ChunkedBody(), b"", None
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(raw)]):
        if end is None:
            pieces, _, end = chunked(body, raw[start:stop])
            out += b"".join(pieces)
    assert end == b""
    assert by_h11(out + LAST_CHUNK) == (payload, True)
    made = [int(line, 16) for line in re.findall(rb"(?:^|\r\n)([0-9a-f]+)\r\n", out)]
    assert max(made, default=0) <= max(JOINED_BYTES, *sizes, 0)


@settings(max_examples=300)
@given(mutants())
def test_a_mutant_has_one_verdict_however_it_is_cut(raw: bytes) -> None:
    """Whole or byte by byte: the same payload and end, or the same refusal."""
    assert verdict_whole(raw) == verdict_bytewise(raw)


def verdict_whole(raw: bytes) -> tuple[str, bytes]:
    """How a stream ends when it comes in one piece."""
    try:
        payload, rest = ChunkedBody().feed(raw)
    except ValueError:
        return "refused", b""
    return ("incomplete" if rest is None else "complete"), payload


def verdict_bytewise(raw: bytes) -> tuple[str, bytes]:
    """How a stream ends when it comes byte by byte."""
    body, payload = ChunkedBody(), b""
    for at in range(len(raw)):
        try:
            piece, rest = body.feed(raw[at : at + 1])
        except ValueError:
            return "refused", b""
        payload += piece
        if rest is not None:
            return "complete", payload
    return "incomplete", payload


def bytewise(body: ChunkedBody, raw: bytes) -> bytes:
    """Feed byte by byte; the last byte must be the end."""
    payload = b""
    for at in range(len(raw)):
        piece, rest = body.feed(raw[at : at + 1])
        payload += piece
        assert (rest == b"") == (at == len(raw) - 1), "the end came early or not at all"
    return payload


def by_h11(raw: bytes) -> tuple[bytes, bool]:
    """The payload h11 reads, and whether it saw the end. Fails where it objects."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + raw)
    assert isinstance(reader.next_event(), h11.Request)
    payload = b""
    while True:
        event = reader.next_event()
        if isinstance(event, h11.Data):
            payload += event.data
        elif isinstance(event, h11.EndOfMessage):
            return payload, True
        else:
            return payload, False
