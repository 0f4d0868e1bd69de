"""What of a request reaches the application, and of a response the client, as bytes."""

from __future__ import annotations

import pytest

from drainproxy.errors import MalformedHead
from drainproxy.proxy import framing, headers
from tests.proxy import feeding
from tests.support.memory import kept_by

OURS = b"X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"

# Which fields of a request go on.


def test_a_plain_request_goes_on_as_it_came_with_three_fields_added() -> None:
    """Order, letter case and unknown fields are kept; what forwarding adds stands last."""
    assert sent(b"GET /x?y HTTP/1.1\r\nX-b: 1\r\nhOST: a\r\nx-A: 2\r\nX-b: 3\r\n\r\n") == (
        b"GET /x?y HTTP/1.1\r\nX-b: 1\r\nhOST: a\r\nx-A: 2\r\nX-b: 3\r\n" + OURS + b"\r\n"
    )


def test_a_host_of_any_length_goes_on_and_is_not_kept() -> None:
    """What strangers write is forgotten with their requests: 300 of 60 kB would be 36 MB for ever."""

    def ask() -> None:
        for number in range(300):
            name = b"%d" % number * 20_000
            raw = sent(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % name)
            assert raw.endswith(b"X-Forwarded-Host: %b\r\n\r\n" % name)

    assert kept_by(ask) < 1_000_000


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Connection: keep-alive",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authenticate: Basic",
        b"Proxy-Authorization: Basic eA==",
        b"TE: gzip",
        b"TE: gzip;q=0.5, deflate",
        b"Upgrade: h2c",
        b"Upgrade: websocket",
        b"HTTP2-Settings: AA",
    ],
)
def test_a_field_for_this_hop_does_not_go_on(line: bytes) -> None:
    """RFC 9110 section 7.6.1: it was about the connection from the client."""
    assert added(line) == b""


def test_what_connection_names_does_not_go_on() -> None:
    """In any letter case, over several lines; the others stay."""
    raw = (
        b"GET / HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nX-Two: 2\r\nx-three: 3\r\nX-Four: 4\r\n"
        b"Connection: x-one, X-THREE\r\nConnection: keep-alive,x-two\r\n\r\n"
    )
    assert sent(raw) == b"GET / HTTP/1.1\r\nHost: a\r\nX-Four: 4\r\n" + OURS + b"\r\n"


@pytest.mark.parametrize("name", [b"host", b"Content-Length", b"transfer-encoding"])
def test_connection_cannot_remove_host_or_framing(name: bytes) -> None:
    """A request that tries is 400, before a byte of it reaches the application."""
    head = feeding.request(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: x, " + name + b"\r\n\r\n")
    with pytest.raises(MalformedHead):
        headers.request_fields(head, headers.check_target(head))


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host"])
def test_connection_cannot_make_a_forwarding_field_missing(name: bytes) -> None:
    """A field that the client nominates for removal is set by us: own fields come after stripping."""
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n" + name + b": forged\r\nConnection: " + name + b"\r\n\r\n"
    assert sent(raw) == b"GET / HTTP/1.1\r\nHost: a\r\n" + OURS + b"\r\n"


@pytest.mark.parametrize(
    ("te", "sent_on"),
    [
        (b"trailers", True),
        (b"Trailers", True),
        (b"gzip, trailers", True),
        (b"gzip;q=0.1 , trailers , deflate", True),
        (b"gzip", False),
        (b"nottrailers", False),
    ],
)
def test_te_goes_on_as_trailers_or_not_at_all(te: bytes, sent_on: bool) -> None:
    """Of the codings a client takes, trailers is the one that we pass on (RFC 9110 section 10.1.4)."""
    expected = b"TE: trailers\r\nConnection: TE\r\n" if sent_on else b""
    assert added(b"TE: " + te + b"\r\nConnection: TE") == expected


# Names with underscores.


@pytest.mark.parametrize(
    "name",
    [
        b"X_Forwarded_For",
        b"x_forwarded_proto",
        b"X-Forwarded_Host",
        b"X_Real_IP",
        b"X_Request_Id",
        b"Content_Length",
        b"Transfer_Encoding",
        b"TRANSFER_ENCODING",
        b"Proxy_Connection",
        b"Keep_Alive",
    ],
)
def test_a_name_that_reads_as_a_field_we_interpret_is_dropped_and_counted(name: bytes) -> None:
    """CGI and WSGI read `_` as `-`: such a twin would be the field itself."""
    raw = b"GET / HTTP/1.1\r\nHost: a\r\n" + name + b": 1\r\n\r\n"
    assert sent_and_dropped(raw) == (b"GET / HTTP/1.1\r\nHost: a\r\n" + OURS + b"\r\n", 1)


def test_a_name_whose_twin_stands_in_the_message_is_dropped() -> None:
    """Two fields that an application may read as one: the one in the usual form stays."""
    raw = b"GET / HTTP/1.1\r\nHost: a\r\nX_User: mallory\r\nX-User: alice\r\nx-USER_: 1\r\n\r\n"
    expected = b"GET / HTTP/1.1\r\nHost: a\r\nX-User: alice\r\nx-USER_: 1\r\n" + OURS + b"\r\n"
    assert sent_and_dropped(raw) == (expected, 1)


def test_other_names_with_underscores_pass() -> None:
    """The application was reachable with them."""
    assert added(b"my_field: 1\r\n_: 2") == b"my_field: 1\r\n_: 2\r\n"


# Forwarding.


@pytest.mark.parametrize(
    "line", [b"X-Forwarded-For: 1.2.3.4", b"x-forwarded-for: 1.2.3.4, 5.6.7.8", b"X-Forwarded-For:  spaced "]
)
def test_a_forwarding_field_that_was_received_passes_and_the_missing_are_set(line: bytes) -> None:
    """`forwarding` is `keep`: who stands before us knows better, and adds no trust."""
    name, _, value = line.partition(b":")
    result = sent(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
    assert result.count(b"orwarded-") == 3 or result.count(b"orwarded-") == 2
    assert name + b": " + value.strip() in result
    assert b"10.0.0.9" not in result
    assert b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n" in result


def test_forwarded_real_ip_and_request_id_pass_as_received() -> None:
    """They are neither made nor touched."""
    lines = b"Forwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nX-Request-Id: abc"
    assert added(lines) == lines + b"\r\n"


def test_a_client_without_an_address_is_not_named() -> None:
    """Over a Unix socket there is nothing to say."""
    assert b"X-Forwarded-For" not in sent(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", peer=b"")


# Framing is written afresh.


@pytest.mark.parametrize(
    ("line", "written"),
    [
        (b"content-length: 0005", b"Content-Length: 5\r\n"),
        (b"Content-Length: 0", b"Content-Length: 0\r\n"),
        (b"transfer-encoding: CHUNKED", b"Transfer-Encoding: chunked\r\n"),
    ],
)
def test_framing_is_written_afresh(line: bytes, written: bytes) -> None:
    """No byte of a framing field is copied."""
    assert added(line, method=b"POST").replace(OURS, b"") == written


def test_a_post_without_a_body_is_sent_without_a_length() -> None:
    """What the client did not say is not said."""
    assert added(b"X: y", method=b"POST") == b"X: y\r\n"


# Responses.


def test_a_response_goes_on_as_it_came() -> None:
    """Order, letter case and repeated fields; Date only if there is none."""
    raw = (
        b"HTTP/1.1 200 Very OK\r\nSet-Cookie: a\r\nX-b: 1\r\nset-cookie: b\r\n"
        b"dAte: then\r\nContent-Length: 2\r\n\r\n"
    )
    assert relayed(raw) == raw


def test_a_response_without_a_date_gets_one() -> None:
    """RFC 9110 section 6.6.1."""
    assert relayed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n") == (
        b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close",
        b"Connection: keep-alive",
        b"Keep-Alive: timeout=5",
        b"Proxy-Connection: close",
        b"Proxy-Authenticate: Basic",
        b"Upgrade: h2c",
        b"Connection: X-Hop\r\nX-Hop: 1",
        b"X-Hop: 1\r\nconnection: close, x-HOP",
    ],
)
def test_a_field_of_the_applications_connection_does_not_go_on(line: bytes) -> None:
    """The client has another connection than the application."""
    raw = b"HTTP/1.1 200 OK\r\nDate: d\r\n" + line + b"\r\nContent-Length: 2\r\n\r\n"
    assert relayed(raw) == b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 2\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "status", "said", "told"),
    [
        (b"HEAD", 200, b"Content-Length: 12", b"Content-Length: 12\r\n"),
        (b"HEAD", 200, b"Content-Length: 0", b"Content-Length: 0\r\n"),
        (b"HEAD", 200, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\n"),
        (b"HEAD", 200, b"X: y", b""),
        (b"GET", 304, b"Content-Length: 12", b"Content-Length: 12\r\n"),
        (b"GET", 304, b"X: y", b""),
        (b"GET", 204, b"Content-Length: 0", b""),
        (b"GET", 204, b"Content-Length: 5", b""),
        (b"GET", 204, b"Transfer-Encoding: chunked", b""),
        (b"GET", 200, b"Content-Length: 0", b"Content-Length: 0\r\n"),
    ],
)
def test_a_response_without_a_body_tells_the_length_it_would_have(
    method: bytes, status: int, said: bytes, told: bytes
) -> None:
    """A 204 has no length at all (RFC 9110 section 8.6)."""
    raw = b"HTTP/1.1 %d X\r\nDate: d\r\n" % status + said + b"\r\n\r\n"
    kept = b"X: y\r\n" if said == b"X: y" else b""
    assert relayed(raw, method=method) == b"HTTP/1.1 %d X\r\nDate: d\r\n" % status + kept + told + b"\r\n"


# Trailers.


@pytest.mark.parametrize(
    "name",
    [
        b"Content-Length",
        b"transfer-encoding",
        b"Host",
        b"Connection",
        b"TE",
        b"Trailer",
        b"Authorization",
        b"proxy-authorization",
        b"Cookie",
        b"Set-Cookie",
        b"Content-Type",
        b"Content-Encoding",
        b"Content-Range",
        b"Cache-Control",
        b"Max-Forwards",
        b"Expect",
        b"Range",
        b"X-Forwarded-For",
        b"Forwarded",
        b"X-Real-IP",
        b"X-Nominated",
    ],
)
def test_a_trailer_that_frames_routes_or_authorises_does_not_go_on(name: bytes) -> None:
    """RFC 9110 section 6.5.1: an application that merges trailers must not be led astray."""
    lines = [b"X-Checksum: 1\r\n", name + b": x\r\n", b"x-Other: 2\r\n"]
    kept = headers.last_chunk(lines, frozenset((b"x-nominated",)))
    assert kept == b"0\r\nX-Checksum: 1\r\nx-Other: 2\r\n\r\n"


def sent_and_dropped(raw: bytes, *, peer: bytes = b"10.0.0.9", host: bytes = b"app") -> tuple[bytes, int]:
    """The head that the application gets for `raw`, and how many twins were dropped."""
    head = feeding.request(raw)
    body = framing.request_body(head)
    return headers.request_head(head, headers.check_target(head), body, peer=peer, scheme=b"http", host=host)


def sent(raw: bytes, **how: bytes) -> bytes:
    """The head that the application gets for `raw`."""
    return sent_and_dropped(raw, **how)[0]


def added(lines: bytes, *, method: bytes = b"GET") -> bytes:
    """What is sent beside a plain request's fields because of `lines`."""
    result = sent(method + b" / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n\r\n")
    start = method + b" / HTTP/1.1\r\nHost: a\r\n"
    assert result.startswith(start)
    return result.removeprefix(start).removesuffix(b"\r\n").replace(OURS, b"")


def relayed(raw: bytes, *, method: bytes = b"GET") -> bytes:
    """The head that a client which asked with `method` gets for the application's `raw`."""
    response = feeding.response(raw)
    request = feeding.request(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
    body = framing.response_body(response, method)
    return headers.response_head(response, body, request, date=b"Date: now\r\n", chunked=False, close=False)
