"""What a client is told when its request fails: every leaf of the error tree, as bytes."""

from __future__ import annotations

import re

import pytest

from drainproxy.errors import (
    Blame,
    ClientGone,
    ConnectTimeout,
    MethodRefused,
    RequestError,
    UpstreamGone,
    UpstreamRefused,
    leaves,
)
from drainproxy.proxy.message import replies
from tests.support.clock import in_fake_time
from tests.support.message import fields_of
from tests.support.transcript import TURNS, Stage
from tests.support.wire import turns

SPOKEN = [leaf for leaf in leaves() if leaf is not ClientGone]
"""Nobody is there to tell that he is gone."""

DATE = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"

each_leaf = pytest.mark.parametrize("leaf", SPOKEN, ids=[leaf.__name__ for leaf in SPOKEN])


def test_a_reply_is_these_bytes() -> None:
    """One written out in full."""
    reply = replies.reply(UpstreamRefused(), date=DATE, head_only=False, close=True)
    assert reply == (
        b"HTTP/1.1 503 Service Unavailable\r\n"
        b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 42\r\n"
        b"Cache-Control: no-store\r\n"
        b'Proxy-Status: drainproxy; error=connection_refused; details="upstream-refused"\r\n'
        b"Retry-After: 1\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"503 Service Unavailable: upstream-refused\n"
    )


@each_leaf
def test_every_error_has_a_reply_with_its_status_and_reason(leaf: type[RequestError]) -> None:
    """Status, Cache-Control and Proxy-Status say whose doing it was (RFC 9209)."""
    start, fields, body = parsed(leaf())
    assert start.split(b" ")[:2] == [b"HTTP/1.1", b"%d" % leaf.status]
    assert fields[b"cache-control"] == b"no-store"
    status = fields[b"proxy-status"]
    assert status == f'drainproxy; error={leaf.proxy_status}; details="{leaf.reason}"'.encode()
    assert fields[b"content-length"] == b"%d" % len(body)
    assert leaf.reason.encode() in body
    assert fields[b"date"] == b"Thu, 01 Jan 1970 00:00:00 GMT"


@each_leaf
def test_no_reply_echoes_anything(leaf: type[RequestError]) -> None:
    """Details go to the log: what a client sent, and what we are made of, is not sent back."""
    reply = replies.reply(leaf("<script>detail</script>"), date=DATE, head_only=False, close=True)
    assert b"detail<" not in reply
    assert b"script>" not in reply
    assert not re.search(rb"(?i)server:|python|\d+\.\d+\.\d+", reply)


@each_leaf
@pytest.mark.parametrize("close", [True, False])
def test_a_reply_says_close_only_when_it_closes(leaf: type[RequestError], close: bool) -> None:
    """The client may rely on it."""
    reply = replies.reply(leaf(), date=DATE, head_only=False, close=close)
    assert (b"\r\nConnection: close\r\n" in reply) is close


@each_leaf
def test_head_is_answered_without_a_body(leaf: type[RequestError]) -> None:
    """The same head, its length too, and nothing behind it (RFC 9110 section 9.3.2)."""
    full = replies.reply(leaf(), date=DATE, head_only=False, close=False)
    assert (
        replies.reply(leaf(), date=DATE, head_only=True, close=False) == full[: full.index(b"\r\n\r\n") + 4]
    )


@each_leaf
def test_every_503_says_when_to_come_back(leaf: type[RequestError]) -> None:
    """And only those."""
    _, fields, _ = parsed(leaf())
    assert (b"retry-after" in fields) is (leaf.status == 503)


def test_a_405_names_what_is_allowed() -> None:
    """RFC 9110 section 15.5.6."""
    _, fields, _ = parsed(MethodRefused())
    assert fields[b"allow"] == b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


@each_leaf
def test_a_reason_is_in_kebab_case_and_its_own(leaf: type[RequestError]) -> None:
    """It is a metric label and a row of the manual."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", leaf.reason)
    assert [other.reason for other in leaves()].count(leaf.reason) == 1


@each_leaf
def test_a_connection_is_kept_only_where_its_bytes_can_be_trusted(leaf: type[RequestError]) -> None:
    """After a client's fault nobody knows where the next request begins.

    A health check that is told to go away, or one too many, must not come back on the same connection.
    """
    go_away = {"draining", "out-of-buffers", "too-many-connections", "too-many-per-client", "hold-timeout"}
    assert leaf.closes is (leaf.blame is Blame.CLIENT or leaf.reason in go_away)


@pytest.mark.parametrize(
    ("leaf", "status"), [(UpstreamGone, 502), (ConnectTimeout, 504), (UpstreamRefused, 503)]
)
def test_the_applications_failures_tell_themselves_apart(leaf: type[RequestError], status: int) -> None:
    """Broken, late and not there are three things."""
    assert leaf.status == status


def parsed(error: RequestError) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """First line, fields by lower-case name, body."""
    head, _, body = replies.reply(error, date=DATE, head_only=False, close=True).partition(b"\r\n\r\n")
    start, _, lines = head.partition(b"\r\n")
    return start, {name.lower(): value for name, value in fields_of(lines)}, body


@in_fake_time
async def test_behind_a_last_answer_so_much_is_read_and_no_more() -> None:
    """A mebibyte is thrown away, so that the answer can be read (RFC 9112 section 9.6); then it breaks."""
    stage = Stage()
    client = stage.client
    client.send(b"nonsense\r\n\r\n")
    await turns(TURNS)
    assert (client.take()[:12], client.end) == (b"HTTP/1.1 400", ".")
    for piece in [bytes(65_536)] * 16:
        client.send(piece)
        await turns(TURNS)
    assert not client.is_closing()
    client.send(b"x")
    assert client.is_closing()
    await stage.close()
