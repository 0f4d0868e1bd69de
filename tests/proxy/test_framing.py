"""How long a message is: by its fields, its method, its status and its version, and when that is refused."""

from __future__ import annotations

import pytest

from drainproxy.errors import (
    AmbiguousFraming,
    MethodRefused,
    RequestError,
    UnsupportedCoding,
    UpstreamMalformed,
)
from drainproxy.proxy.message import framing
from drainproxy.proxy.message.framing import (
    AnswersChunkedBody,
    ChunkedBody,
    Framing,
    LengthBody,
    UntilCloseBody,
)
from tests.proxy import feeding

# Requests (RFC 9112 section 6.3).


@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
def test_a_request_without_framing_fields_has_no_body(method: bytes) -> None:
    """Nothing said means nothing sent, whatever the method."""
    assert request_body(method=method) is None


@pytest.mark.parametrize(
    ("text", "length"), [(b"1", 1), (b"0042", 42), (b"7 ", 7), (b"7\t", 7), (b"9" * 18, int("9" * 18))]
)
def test_a_plain_decimal_is_a_length(text: bytes, length: int) -> None:
    """Digits, and nothing but blanks behind them."""
    body = request_body(b"Content-Length: " + text)
    assert isinstance(body, LengthBody)
    assert body.length == length


def test_a_length_of_zero_is_no_body() -> None:
    """Nothing will follow the head."""
    assert request_body(b"Content-Length: 0") is None


BAD_LENGTHS = [
    b"",
    b"-1",
    b"+1",
    b"0x10",
    b"1e3",
    b"1.0",
    b"1_0",
    b"1 0",
    b"1,1",
    b"1, 1",
    b"1;",
    b"abc",
    b'"1"',
    b"\xb2",
    b"9" * 19,
    b"18446744073709551616",
    b"0" * 400 + b"1",
]


@pytest.mark.parametrize("text", BAD_LENGTHS)
def test_a_length_that_is_no_plain_decimal_is_a_400(text: bytes) -> None:
    """A sign, a blank, a list, another base, a number of no size that exists."""
    assert_refused(400, b"Content-Length: " + text)


@pytest.mark.parametrize("second", [b"5", b"6", b"", b"x"])
def test_a_repeated_length_is_a_400(second: bytes) -> None:
    """The same twice too: somebody merged two messages."""
    assert_refused(400, b"Content-Length: 5", b"Content-Length: " + second)


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b"CHUNKED", b"chunked "])
def test_one_final_chunked_is_chunked(coding: bytes) -> None:
    """The coding's name has no letter case."""
    assert isinstance(request_body(b"Transfer-Encoding: " + coding), ChunkedBody)


@pytest.mark.parametrize(
    "lines",
    [
        (b"gzip",),
        (b"gzip, chunked",),
        (b"chunked, gzip",),
        (b"chunked, chunked",),
        (b"chunked", b"chunked"),
        (b"gzip", b"chunked"),
        (b"chunked", b"identity"),
        (b"identity",),
        (b"",),
        (b"chunked,",),
        (b",chunked",),
        (b"xchunked",),
        (b"chunked;q=1",),
        (b'"chunked"',),
        (b"\x0bchunked",),
        (b"chunked\xa0",),
    ],
)
def test_any_other_coding_is_refused(lines: tuple[bytes, ...]) -> None:
    """Only one final chunked is known; everything else is 501 or 400 before a byte is forwarded."""
    assert_refused({400, 501}, *(b"Transfer-Encoding: " + line for line in lines))


@pytest.mark.parametrize("order", [1, -1])
def test_both_length_and_coding_are_a_400(order: int) -> None:
    """Two readings of one message, in either order (RFC 9112 section 6.1)."""
    lines = [b"Transfer-Encoding: chunked", b"Content-Length: 5"]
    assert_refused(400, *lines[::order])


def test_a_coding_in_http_1_0_is_a_400() -> None:
    """HTTP/1.0 has no transfer codings."""
    assert_refused(400, b"Transfer-Encoding: chunked", version=b"1.0")


@pytest.mark.parametrize("line", [b"Content-Length: 1", b"Transfer-Encoding: chunked"])
def test_trace_has_no_body(line: bytes) -> None:
    """TRACE is refused, with a body above all (RFC 9110 section 9.3.8)."""
    head = feeding.request(b"TRACE / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
    with pytest.raises(MethodRefused):
        framing.request_body(head)


# Responses.


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ((b"Content-Length: 5",), LengthBody),
        ((b"Transfer-Encoding: chunked",), AnswersChunkedBody),
        ((), UntilCloseBody),
    ],
)
def test_a_response_is_framed_by_its_fields_or_by_the_close(lines: tuple[bytes, ...], kind: type) -> None:
    """A length, chunks, or the connection's end."""
    assert type(response_body(*lines)) is kind


FRAMED = {
    "nothing": (),
    "a length": (b"Content-Length: 5",),
    "no length": (b"Content-Length: 0",),
    "chunks": (b"Transfer-Encoding: chunked",),
}


@pytest.mark.parametrize("lines", FRAMED.values(), ids=FRAMED)
@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 103), (b"GET", 204), (b"GET", 304)])
def test_some_responses_have_no_body_whatever_they_say(
    method: bytes, status: int, lines: tuple[bytes, ...]
) -> None:
    """HEAD, 1xx, 204 and 304 end with their head (RFC 9112 section 6.3)."""
    assert response_body(*lines, method=method, status=status) is None


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_response_without_a_body_is_not_refused_for_its_framing(
    method: bytes, status: int, version: bytes
) -> None:
    """What frames nothing cannot be ambiguous; such an application worked without us."""
    raw = b"HTTP/%b %d X\r\nTransfer-Encoding: gzip\r\n\r\n" % (version, status)
    assert framing.response_body(feeding.response(raw), method) is None


@pytest.mark.parametrize(
    "lines",
    [
        (b"Transfer-Encoding: gzip",),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 1", b"Content-Length: 2"),
        (b"Content-Length: 1, 1, 01",),
        *((b"Content-Length: " + text,) for text in BAD_LENGTHS if b"," not in text),
    ],
)
def test_a_response_with_broken_framing_is_a_502(lines: tuple[bytes, ...]) -> None:
    """Relaying it would mean to guess where it ends."""
    with pytest.raises(UpstreamMalformed) as caught:
        response_body(*lines)
    assert caught.value.status == 502


def test_chunks_in_an_http_1_0_response_are_a_502() -> None:
    """A 1.0 server that sends a coding is not understood (RFC 9112 section 6.1)."""
    head = feeding.response(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with pytest.raises(UpstreamMalformed):
        framing.response_body(head, b"GET")


@pytest.mark.parametrize(("lines", "length"), [((), None), ((b"Content-Length: 12 ",), 12)])
def test_the_length_of_a_body_that_is_not_sent_is_passed_on(
    lines: tuple[bytes, ...], length: int | None
) -> None:
    """HEAD and 304 describe what GET would have sent (RFC 9110 section 8.6)."""
    head = feeding.response(b"".join([b"HTTP/1.1 304 X\r\n", *(line + b"\r\n" for line in lines), b"\r\n"]))
    assert head.content_length == length


# Bodies that are not chunked.


@pytest.mark.parametrize("cut", range(6))
def test_a_body_with_a_length_ends_at_its_last_byte(cut: int) -> None:
    """However it is cut, five bytes are five bytes, and what follows is handed back."""
    body = LengthBody(5)
    first, rest = body.feed(b"abcde"[:cut])
    assert (first, rest) == (b"abcde"[:cut], b"" if cut == 5 else None)
    if cut < 5:
        assert body.feed(b"abcde"[cut:] + b"next") == (b"abcde"[cut:], b"next")


def test_a_body_until_close_never_ends_by_itself() -> None:
    """Only the connection's end ends it."""
    body = UntilCloseBody()
    assert body.feed(b"0\r\n\r\n") == (b"0\r\n\r\n", None)
    assert body.framing is Framing.UNTIL_CLOSE


def request_body(*lines: bytes, method: bytes = b"POST", version: bytes = b"1.1") -> framing.Body | None:
    """The body of a request with these field lines."""
    raw = [method + b" / HTTP/" + version + b"\r\nHost: a\r\n", *(line + b"\r\n" for line in lines), b"\r\n"]
    return framing.request_body(feeding.request(b"".join(raw)))


def response_body(*lines: bytes, method: bytes = b"GET", status: int = 200) -> framing.Body | None:
    """The body of a response with these field lines."""
    raw = [b"HTTP/1.1 %d X\r\n" % status, *(line + b"\r\n" for line in lines), b"\r\n"]
    return framing.response_body(feeding.response(b"".join(raw)), method)


def assert_refused(status: int | set[int], *lines: bytes, version: bytes = b"1.1") -> None:
    """By the reader or by the framing: the client sees one status, and nothing was forwarded."""
    with pytest.raises(RequestError) as caught:
        request_body(*lines, version=version)
    assert caught.value.status in (status if isinstance(status, set) else {status})
    assert isinstance(caught.value, AmbiguousFraming | UnsupportedCoding) or caught.value.status == 400
