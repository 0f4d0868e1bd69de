"""What of a request reaches the application, and of a response the client, as bytes."""

from __future__ import annotations

import pytest

from drainproxy.errors import MalformedHead
from drainproxy.proxy.message import framing, headers
from tests.proxy import feeding
from tests.support.memory import kept_by

OURS = b"X-Forwarded-For: 10.0.0.9\r\n"

# Which fields of a request go on.


def test_a_plain_request_goes_on_as_it_came_with_its_clients_address_added() -> None:
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
            assert b"Host: %b\r\n" % name in raw

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


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"Forwarded", b"X-Real-IP", b"CF-Connecting-IP"])
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
    "line",
    [
        b"X-Forwarded-For: 1.2.3.4",
        b"x-forwarded-for: 1.2.3.4, 5.6.7.8",
        b"Forwarded: for=1.2.3.4",
        b"X-Real-IP: 1.2.3.4",
        b"CF-Connecting-IP: 1.2.3.4",
        b"true-client-ip: 1.2.3.4",
        b"Fastly-Client-IP: 1.2.3.4",
        b"X-Azure-ClientIP: 1.2.3.4",
    ],
)
def test_who_is_named_by_a_usual_field_is_named_by_no_other(line: bytes) -> None:
    """`forwarding` is `keep`: frameworks prefer X-Forwarded-For, and would not see what came any more."""
    assert sent(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n") == (
        b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"
    )


@pytest.mark.parametrize(
    "line",
    [b"X-Forwarded-Ssl: on", b"X-Forwarded-Protocol: ssl", b"X-Forwarded-Proto: https", b"X-Request-Id: abc"],
)
def test_neither_scheme_nor_host_is_added(line: bytes) -> None:
    """gunicorn answers 400 where two fields differ about the scheme; Tomcat's RemoteIpValve makes port 80 of
    a plain one. Host and the socket say both anyway."""
    assert sent(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n") == (
        b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n" + OURS + b"\r\n"
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"", b"X-Forwarded-Proto: https\r\n"),
        (b"X-Forwarded-Proto: http\r\n", b""),
        (b"X-Forwarded-Ssl: off\r\n", b""),
        (b"X-Forwarded-Protocol: http\r\n", b""),
        (b"Connection: x-forwarded-proto\r\nX-Forwarded-Proto: http\r\n", b"X-Forwarded-Proto: https\r\n"),
    ],
)
def test_tls_that_ended_here_is_told_where_nothing_tells_of_the_scheme(line: bytes, told: bytes) -> None:
    """The application cannot see it otherwise."""
    result = sent(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n", scheme=b"https")
    kept = b"" if line.startswith(b"Connection") else line
    assert result == b"GET / HTTP/1.1\r\nHost: a\r\n" + kept + told + OURS + b"\r\n"


@pytest.mark.parametrize("framing_line", [b"", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("count", [96, 97, 98, 99, 100])
def test_nothing_is_added_that_a_limit_of_a_hundred_fields_would_refuse(
    count: int, framing_line: bytes
) -> None:
    """gunicorn, granian, Tomcat, Django and wsgiref take 100, and took them without us."""
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(count - 1 - bool(framing_line)))
    result = sent(b"POST / HTTP/1.1\r\nHost: a\r\n" + lines + framing_line + b"\r\n")
    assert result.count(b"\r\n") - 2 <= 100


@pytest.mark.parametrize("size", [8100, 8170, 8192])
def test_nothing_is_added_that_a_limit_of_8_kib_would_refuse(size: int) -> None:
    """Tomcat's maxHttpRequestHeaderSize, for one."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: "
    raw = start + b"c" * (size - len(start) - 4) + b"\r\n\r\n"
    result = sent(raw)
    assert len(result) <= 8192
    assert result.replace(OURS, b"") == raw


def test_whitespace_behind_a_value_is_no_part_of_it() -> None:
    """Of either kind and of both (RFC 9112 section 5.1), in fields that are read here, too."""
    raw = b"GET / HTTP/1.1\r\nHost: a\t \r\nA: b \t\r\nC:\t \td\t\r\nE: \t \r\nTE: trailers \t\r\n\r\n"
    assert sent(raw) == (
        b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nC: d\r\nE: \r\n"
        + OURS
        + b"TE: trailers\r\nConnection: TE\r\n\r\n"
    )
    assert b"Content-Length: 5\r\n" in sent(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 \t\r\n\r\n")


def test_whitespace_behind_a_value_of_an_answer_is_no_part_of_it() -> None:
    """The same for the client."""
    raw = b"HTTP/1.1 200 OK\r\nDate: d\r\nA: b \t\r\nC: \r\nContent-Length: 5\t \r\n\r\n"
    assert relayed(raw) == b"HTTP/1.1 200 OK\r\nDate: d\r\nA: b\r\nC: \r\nContent-Length: 5\r\n\r\n"


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
    named = frozenset((b"x-nominated",))
    assert headers.last_chunk(lines, named) == b"0\r\nX-Checksum: 1\r\nx-Other: 2\r\n\r\n"


@pytest.mark.parametrize(
    "name",
    [
        b"X_Forwarded_For",
        b"X.Forwarded.For",
        b"X~Real~IP",
        b"Content_Length",
        b"X-Forwarded-Port",
        b"x!forwarded!prefix",
        b"CF-Connecting-IP",
        b"true_client_ip",
        b"X-Forwarded-Ssl",
        b"X-Request-Id",
    ],
)
def test_a_requests_trailer_says_nothing_that_its_head_could_not(name: bytes) -> None:
    """An application that merges them would read there what `forwarding` has taken away; an answer's trailer
    names nobody."""
    line = name + b": x\r\n"
    assert headers.last_chunk([line], frozenset(), of_request=True) == framing.LAST_CHUNK
    assert headers.last_chunk([b"X-Checksum: 1\r\n"], frozenset(), of_request=True) == (
        b"0\r\nX-Checksum: 1\r\n\r\n"
    )


def sent_and_dropped(
    raw: bytes, *, peer: bytes = b"10.0.0.9", host: bytes = b"app", scheme: bytes = b"http"
) -> tuple[bytes, int]:
    """The head that the application gets for `raw`, and how many twins were dropped."""
    head = feeding.request(raw)
    body = framing.request_body(head)
    return headers.request_head(head, headers.check_target(head), body, peer=peer, scheme=scheme, host=host)


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
