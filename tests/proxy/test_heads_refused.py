"""Which request heads are refused, and with what: http.md's "Receiving a request", at every byte boundary."""

from __future__ import annotations

import pytest

from drainproxy.errors import (
    FieldsTooLarge,
    MalformedHead,
    RequestError,
    TargetTooLong,
    UnknownMethod,
    UnsupportedVersion,
)
from tests.proxy import feeding
from tests.proxy.feeding import WAYS

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"

MALFORMED = {
    "bare CR in the request line": b"GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare CR at the end of the request line": b"GET / HTTP/1.1\rHost: a\r\n\r\n",
    "bare CR in a value": HEAD + b"X: a\rb\r\n\r\n",
    "bare CR at the end of a field": HEAD + b"X: a\rY: b\r\n\r\n",
    "bare LF at the end of the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF at the end of a field": HEAD + b"X: a\nY: b\r\n\r\n",
    "bare LF as the empty line": HEAD + b"\n\r\n\r\n",
    "bare LF only": b"GET / HTTP/1.1\nHost: a\n\n\r\n\r\n",
    "bare LF before the request line": b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two empty lines before the request line": b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a blank before the first field": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a tab before the first field": b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n",
    "a folded field": HEAD + b"X: a\r\n b\r\n\r\n",
    "a field folded with a tab": HEAD + b"X: a\r\n\tb\r\n\r\n",
    "a blank line of blanks": HEAD + b"  \r\n\r\n",
    "NUL in a value": HEAD + b"X: a\0b\r\n\r\n",
    "NUL in a name": HEAD + b"X\0: a\r\n\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a blank before the colon": HEAD + b"X : a\r\n\r\n",
    "a tab before the colon": HEAD + b"X\t: a\r\n\r\n",
    "no name": HEAD + b": a\r\n\r\n",
    "no colon": HEAD + b"X\r\n\r\n",
    "a name in parentheses": HEAD + b"(X): a\r\n\r\n",
    "a name with a byte over 0x7F": HEAD + b"X\xe4: a\r\n\r\n",
    "a target with a byte over 0x7F": b"GET /\xe4 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target with a tab": b"GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n",
    "two blanks in the request line": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "two blanks before the version": b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    "a blank after the version": b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
    "a tab between the words": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "a blank before the method": b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9 by its name": b"GET / HTTP/0.9\r\nHost: a\r\n\r\n",
    "HTTP/0.9 by its shape": b"GET /\r\n\r\n",
    "a version in lower case": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "a version of one number": b"GET / HTTP/1\r\nHost: a\r\n\r\n",
    "a version of two digits": b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
    "RTSP": b"DESCRIBE rtsp://a/b RTSP/1.0\r\nCSeq: 2\r\n\r\n",
    "RTSP with a method of HTTP": b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
    "ICE": b"SOURCE /live ICE/1.0\r\nHost: a\r\n\r\n",
    "ICE with a method of HTTP": b"GET / ICE/1.0\r\nHost: a\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "an empty method": b"/ HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_head_is_a_400(raw: bytes, way: str) -> None:
    """What has two readings, or none, is 400, however the network cuts it."""
    refused_with(MalformedHead, 400, raw, way)


UNKNOWN = {
    "a made-up method": b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a known method with a tail": b"GETS / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a known method's beginning": b"GE / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("raw", UNKNOWN.values(), ids=UNKNOWN)
def test_a_method_that_the_parser_does_not_know_is_a_501(raw: bytes, way: str) -> None:
    """An unknown method is 501: nobody knows how its body is framed."""
    refused_with(UnknownMethod, 501, raw, way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", [b"1.2", b"2.0", b"3.0", b"9.9"])
def test_another_version_is_a_505(version: bytes, way: str) -> None:
    """Neither 1.0 nor 1.1 is 505."""
    refused_with(UnsupportedVersion, 505, b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n", way)


# Limits, at their edges.


@pytest.mark.parametrize("way", WAYS)
def test_a_request_line_of_exactly_the_limit_passes(way: str) -> None:
    """The limit counts the line without its CRLF, and itself is allowed."""
    raw = request_line_of(64) + b"Host: a\r\n\r\n"
    assert len(feeding.request(raw, way, max_request_line_bytes=64).target) == 64 - len(b"GET  HTTP/1.1")


@pytest.mark.parametrize("way", WAYS)
def test_a_request_line_one_byte_over_the_limit_is_a_414(way: str) -> None:
    """One byte more is 414."""
    raw = request_line_of(65) + b"Host: a\r\n\r\n"
    refused_with(TargetTooLong, 414, raw, way, max_request_line_bytes=64)


def test_an_endless_request_line_is_a_414_before_its_end() -> None:
    """Nobody waits for the end of a line that is too long already."""
    refused_with(TargetTooLong, 414, b"GET /" + b"a" * 16 * 1024, "whole")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [b"X", b"Connection", b"TE", b"Keep-Alive"])
def test_as_many_fields_as_the_limit_pass(name: bytes, way: str) -> None:
    """The hundredth field is allowed, whatever is done with it later."""
    raw = HEAD + (name + b": y\r\n") * 99 + b"\r\n"
    assert feeding.request(raw, way).method == b"GET"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [b"X", b"Connection", b"TE", b"Keep-Alive"])
def test_one_field_more_than_the_limit_is_a_431(name: bytes, way: str) -> None:
    """Every field counts, those too that are not forwarded."""
    raw = HEAD + (name + b": y\r\n") * 100 + b"\r\n"
    refused_with(FieldsTooLarge, 431, raw, way)


@pytest.mark.parametrize("way", WAYS)
def test_a_head_of_exactly_the_limit_passes(way: str) -> None:
    """The limit counts every byte up to and with the empty line."""
    assert feeding.request(head_of(512), way, max_head_bytes=512).http_1_1


@pytest.mark.parametrize("way", WAYS)
def test_a_head_one_byte_over_the_limit_is_a_431(way: str) -> None:
    """One byte more is 431."""
    refused_with(FieldsTooLarge, 431, head_of(513), way, max_head_bytes=512)


def test_an_endless_head_is_a_431_before_its_end() -> None:
    """Nobody waits for the end of a head that is too large already."""
    refused_with(FieldsTooLarge, 431, HEAD + b"X: " + b"a" * 64 * 1024, "whole")


def request_line_of(size: int) -> bytes:
    """A request line of `size` bytes and its CRLF."""
    frame = b"GET / HTTP/1.1"
    return b"GET /" + b"a" * (size - len(frame)) + b" HTTP/1.1\r\n"


def head_of(size: int) -> bytes:
    """A whole head of `size` bytes."""
    start = HEAD + b"X: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


def refused_with(kind: type[RequestError], status: int, raw: bytes, way: str, **limits: int) -> None:
    """Feed `raw`; insist on the error and its status."""
    with pytest.raises(RequestError) as caught:
        feeding.request(raw, way, **limits)
    assert (type(caught.value), caught.value.status) == (kind, status)
