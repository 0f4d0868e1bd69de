"""The strict readers: what they take, where they put a fault, and every byte boundary."""

from __future__ import annotations

import pytest

from tests.conformance import answers, requests, witness
from tests.conformance.answers import Ended
from tests.conformance.requests import End

HEAD = b"POST /a HTTP/1.1\r\nHost: shop\r\n"
VALID = [
    b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n",
    HEAD + b"Content-Length: 3\r\n\r\nabc",
    HEAD + b'Transfer-Encoding: Chunked\r\n\r\n3;a=b;c="d;e"\r\nabc\r\n0\r\nX-T: 1\r\n\r\n',
]


@pytest.mark.parametrize("data", VALID)
def test_no_beginning_of_a_valid_request_is_a_fault(data: bytes):
    """Cut at every byte a valid request is short, never wrong."""
    for cut in range(1, len(data)):
        assert requests.read(data[:cut]).end in {End.IN_HEAD, End.IN_BODY}, data[:cut]
    assert requests.read(data).end is End.CLEAN


@pytest.mark.parametrize("data", VALID)
def test_both_readers_agree_on_valid_requests(data: bytes):
    """h11 counts the same whole requests as the strict reader, one and two in a row."""
    for stream, count in ((data, 1), (data + data, 2)):
        assert requests.read(stream).count == witness.count_requests(stream).whole == count


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\nHost: shop\r\n\r\n", "bare-lf"),
        (b"GET / HTTP/1.1\r\nHost: shop\r\nA: b\rC: d\r\n\r\n", "bare-cr"),
        (b"GET / HTTP/1.1\r\nHost: shop\r\nA: b\r\n c\r\n\r\n", "obs-fold"),
        (b"GET / HTTP/1.1\r\nHost : shop\r\n\r\n", "field-line"),
        (b"GET / HTTP/1.1\r\n\r\n", "host-count"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "host-count"),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "host-value"),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "target-form"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "request-line"),
        (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "te-and-cl"),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "transfer-encoding"),
        (HEAD + b"Content-Length: +1\r\n\r\n", "content-length"),
        (HEAD + b"Content-Length: 9999999999999999999\r\n\r\n", "content-length"),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "te-in-1.0"),
    ],
)
def test_faults_in_a_head_are_named(data: bytes, why: str):
    """Each rule that a head breaks has its name."""
    reading = requests.read(data)
    assert (reading.end, reading.why) == (End.HEAD_FAULT, why)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"zz\r\n", "chunk-line"),
        (b"3;\r\nabc\r\n", "chunk-line"),
        (b"3 \r\nabc\r\n", "chunk-line"),
        (b"3\r\nabcd\r\n", "chunk-end"),
        (b"3\nabc\r\n", "bare-lf"),
        (b"ffffffffffffffff\r\n", "chunk-overflow"),
        (b"0\r\nA b: c\r\n\r\n", "field-line"),
    ],
)
def test_faults_in_a_body_are_told_from_faults_in_a_head(body: bytes, why: str):
    """A good head before a bad chunk or trailer is a fault in the body."""
    reading = requests.read(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert (reading.end, reading.why) == (End.BODY_FAULT, why)


def test_bytes_after_close_are_seen_as_such():
    """What follows a closing request belongs to no request."""
    data = b"GET / HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\n"
    assert (requests.read(data).count, requests.read(data).end) == (1, End.AFTER_CLOSE)


def test_absolute_form_gives_target_and_host():
    """The authority of an absolute target is the host that counts (RFC 9112 3.2.2)."""
    data = b"GET http://shop:80?q HTTP/1.1\r\nHost: other\r\n\r\n"
    (request,) = requests.read(data).requests
    assert (request.target, request.host) == (b"/?q", b"shop:80")


@pytest.mark.parametrize(
    ("data", "method", "ended", "complete", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"GET", Ended.OPEN, True, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", b"GET", Ended.FIN, False, b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"HEAD", Ended.OPEN, True, b""),
        (b"HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\n", b"GET", Ended.OPEN, True, b""),
        (b"HTTP/1.1 200 OK\r\n\r\nok", b"GET", Ended.FIN, True, b"ok"),
        (b"HTTP/1.1 200 OK\r\n\r\nok", b"GET", Ended.RESET, False, b"ok"),
        (b"HTTP/1.1 200 OK\r\n\r\nok", b"GET", Ended.OPEN, False, b"ok"),
    ],
)
def test_when_a_reply_is_complete(data: bytes, method: bytes, ended: Ended, complete: bool, body: bytes):
    """RFC 9112 6.3 and 8: length, chunks or a clean close end a reply, a reset does not."""
    (reply,) = answers.read(data, [method], ended).replies
    assert (reply.complete, reply.body) == (complete, body)


def test_interim_replies_belong_to_the_final_one():
    """1xx replies are kept beside the reply they announce."""
    data = b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nleft"
    got = answers.read(data, [b"GET"])
    assert (got.replies[0].status, got.replies[0].interim, got.rest) == (204, (103,), b"left")
