"""What becomes of a good head: words, fields in order, what is noted, and the bytes behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy.errors import UpstreamMalformed
from drainproxy.proxy.message.field_names import (
    MAX_REMEMBERED_BYTES,
    MAX_REMEMBERED_NAMES,
    OF_REQUESTS,
    OF_RESPONSES,
)
from drainproxy.proxy.message.parser import (
    MAX_RESPONSE_FIELDS,
    MAX_RESPONSE_HEAD_BYTES,
    RequestReader,
    ResponseReader,
)
from drainproxy.proxy.settings import ProxySettings
from tests.proxy import feeding
from tests.proxy.feeding import WAYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.proxy.message.parser import RequestHead, ResponseHead

each_way = pytest.mark.parametrize("way", WAYS)


@each_way
def test_a_head_is_taken_apart_without_losing_a_byte(way: str) -> None:
    """Words as sent; end-to-end fields in order with their letter case; the rest handed back."""
    head = feeding.request(
        b"POST /a?b=%2f HTTP/1.1\r\nHost: a\r\nx-B: 1\r\nX-a:2\r\nx-b:  3 \r\nAccept:\r\n\r\n", way
    )
    assert (head.method, head.target, head.http_1_1) == (b"POST", b"/a?b=%2f", True)
    assert b"".join(head.fields).replace(b" \r\n", b"\r\n") == (
        b"Host: a\r\nx-B: 1\r\nX-a: 2\r\nx-b: 3\r\nAccept:\r\n"
    )


@each_way
@pytest.mark.parametrize(
    "target", [b"/%0d%0a", b"/%2e%2e/a/../b//c/;x?a=b%26c&&d", b"*", b"http://a/b", b"/'\"<>[]{}|\\^`~"]
)
def test_a_target_is_kept_byte_for_byte(target: bytes, way: str) -> None:
    """Nothing is decoded, normalised or encoded again."""
    assert feeding.request(b"OPTIONS " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n", way).target == target


@each_way
def test_one_empty_line_before_a_request_is_ignored(way: str) -> None:
    """An old client's extra CRLF after a body is not a request (RFC 9112 section 2.2)."""
    head = feeding.request(b"\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n", way)
    assert (head.method, head.target) == (b"GET", b"/x")


def test_an_empty_line_alone_is_no_head_begun() -> None:
    """Nothing has begun, so no time-out runs for it."""
    reader = RequestReader(ProxySettings())
    assert reader.feed(b"\r\n") is None
    assert not reader.begun
    assert reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") is not None


def test_a_head_has_begun_with_its_first_byte_and_ends_with_its_last() -> None:
    """`begun` is what a time-out and a drain go by."""
    reader = RequestReader(ProxySettings())
    reader.feed(b"G")
    assert reader.begun
    reader.feed(b"ET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert not reader.begun


def test_one_reader_reads_one_head_after_another() -> None:
    """Pipelined heads come out one at a time, the rest untouched, whatever the one before was."""
    reader = RequestReader(ProxySettings())
    heads = [
        b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"GET /3 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET /4 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n",
        b"GET /5 HTTP/1.0\r\n\r\n",
    ]
    rest = b"".join(heads)
    for number in range(1, 6):
        read = reader.feed(rest)
        assert read is not None
        head, rest = read
        assert head.target == b"/%d" % number
        assert rest == b"".join(heads[number:])


def test_what_follows_a_head_is_not_looked_at() -> None:
    """Rubbish behind a good head is the next request's trouble."""
    read = RequestReader(ProxySettings()).feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\x00\xff\r\n\r\n")
    assert read is not None
    assert read[1] == b"\x00\xff\r\n\r\n"


@each_way
@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: close",
        b"Proxy-Authenticate: Basic",
        b"Proxy-Authorization: Basic eA==",
        b"TE: gzip",
        b"Transfer-Encoding: chunked",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AA",
        b"Content-Length: 0",
        b"cOnTeNt-LeNgTh: 0",
    ],
)
def test_fields_for_this_hop_and_framing_are_noted_and_not_forwarded(line: bytes, way: str) -> None:
    """What only this connection is about is left out of what goes on (RFC 9110 section 7.6.1)."""
    head = feeding.request(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n", way)
    name, _, value = line.partition(b": ")
    assert head.fields == [b"Host: a\r\n"]
    assert head.noted[name.lower()] == value


@each_way
def test_a_repeated_field_is_noted_as_one_list(way: str) -> None:
    """Two lines of one name mean their values with a comma between (RFC 9110 section 5.3)."""
    head = feeding.request(
        b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\nConnection: x\r\nConnection: Y, close\r\n\r\n", way
    )
    assert head.noted[b"host"] == b"a, b"
    assert head.named == {b"x", b"y", b"close"}
    assert head.fields == [b"Host: a\r\n", b"host: b\r\n"]


@each_way
def test_a_name_with_an_underscore_is_remarked(way: str) -> None:
    """Whether it is a twin is decided elsewhere; here it is only seen."""
    assert feeding.request(b"GET / HTTP/1.1\r\nHost: a\r\nX_Y: 1\r\n\r\n", way).underscored
    assert not feeding.request(b"GET / HTTP/1.1\r\nHost: a\r\nX-Y: _\r\n\r\n", way).underscored


# Responses.


@pytest.mark.parametrize("read", [feeding.request, feeding.response])
def test_names_that_nobody_sends_twice_are_not_kept_for_ever(
    read: Callable[[bytes], RequestHead | ResponseHead],
) -> None:
    """What is known of a name is looked up as it was written; whoever invents names fills no memory, and what
    is told of the others stays right."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\n" if read is feeding.request else b"HTTP/1.1 200 OK\r\n"
    for number in range(2 * MAX_REMEMBERED_NAMES):
        head = read(start + b"X-%d: 1\r\nX-%b: 2\r\ncOnTeNt-LeNgTh: 3\r\n\r\n" % (number, b"y" * 65))
        assert head.fields[-2:] == [b"X-%d: 1\r\n" % number, b"X-%b: 2\r\n" % (b"y" * 65)]
        assert head.noted[b"content-length"] == b"3"
    known = (OF_REQUESTS if read is feeding.request else OF_RESPONSES).known
    assert len(known) <= MAX_REMEMBERED_NAMES
    assert max(map(len, known)) <= MAX_REMEMBERED_BYTES


@each_way
def test_a_response_head_is_taken_apart_without_losing_a_byte(way: str) -> None:
    """Status, reason, fields in order with their letter case."""
    head = feeding.response(
        b"HTTP/1.1 404 Not \xe4 Found\r\nX-b: 1\r\nSet-Cookie: a\r\nset-cookie: b\r\ndate: now\r\n\r\n", way
    )
    assert (head.status, head.start, head.http_1_1) == (404, b"HTTP/1.1 404 Not \xe4 Found\r\n", True)
    assert head.fields == [b"X-b: 1\r\n", b"Set-Cookie: a\r\n", b"set-cookie: b\r\n", b"date: now\r\n"]


@each_way
@pytest.mark.parametrize(
    ("line", "reason"), [(b"HTTP/1.1 200", b""), (b"HTTP/1.1 200 ", b""), (b"HTTP/1.0 200 OK", b"OK")]
)
def test_a_reason_may_be_missing(line: bytes, reason: bytes, way: str) -> None:
    """Servers leave it out, with or without the blank before it."""
    assert feeding.response(line + b"\r\n\r\n", way).start[13:-2] == reason


@pytest.mark.parametrize("status", [100, 102, 103, 199, 200, 204, 304, 418, 500, 599])
def test_every_status_of_the_five_classes_is_read(status: int) -> None:
    """Unregistered numbers too."""
    assert feeding.response(b"HTTP/1.1 %d X\r\n\r\n" % status).status == status


BROKEN = {
    "bare LF": b"HTTP/1.1 200 OK\nX: y\n\n\r\n\r\n",
    "bare CR in a value": b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "a blank before the colon": b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
    "a folded field": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "an empty line first": b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "a status below the classes": b"HTTP/1.1 099 OK\r\n\r\n",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "another protocol": b"ICY 200 OK\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "two blanks before the status": b"HTTP/1.1  200 OK\r\n\r\n",
    "a control character in the reason": b"HTTP/1.1 200 O\x0bK\r\n\r\n",
    "a page and no head": b"<html>hello</html>\r\n\r\n",
    "Transfer-Encoding with Content-Length": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"
    ),
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
}


@each_way
@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_a_malformed_response_is_the_applications_fault(raw: bytes, way: str) -> None:
    """Anything that is not one HTTP/1 head, or has two readings, is a 502."""
    with pytest.raises(UpstreamMalformed) as caught:
        feeding.response(raw, way)
    assert caught.value.status == 502


def test_a_response_head_is_bounded_by_size() -> None:
    """An application that sends fields for ever does not fill the memory."""
    reader = ResponseReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(MAX_RESPONSE_HEAD_BYTES // 1024 - 1):
        reader.feed(b"a" * 1024)
    with pytest.raises(UpstreamMalformed):
        reader.feed(b"a" * 1024)


def test_a_response_head_is_bounded_by_count() -> None:
    """Many small fields are too many."""
    raw = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (MAX_RESPONSE_FIELDS + 1) + b"\r\n"
    with pytest.raises(UpstreamMalformed):
        feeding.response(raw)


def test_a_body_behind_a_204_that_closes_is_no_fault_of_the_head() -> None:
    """What comes with the head is judged as what comes after it: the head stands."""
    raw = b"HTTP/1.1 204 No Content\r\nConnection: close\r\nContent-Length: 1\r\n\r\n"
    read = ResponseReader().feed(raw + b"x")
    assert read is not None
    assert (read[0].status, read[1]) == (204, b"x")


def test_what_follows_a_response_head_is_handed_back() -> None:
    """The body is framing's."""
    read = ResponseReader().feed(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef")
    assert read is not None
    assert read[1] == b"abcdef"
