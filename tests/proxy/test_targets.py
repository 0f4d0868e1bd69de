"""Where a request goes: every form of a target, every Host, and the bytes of the path untouched."""

from __future__ import annotations

import pytest

from drainproxy.errors import InvalidHost, InvalidTarget, MalformedHead, MethodRefused, RequestError
from drainproxy.proxy.message import framing, headers
from tests.proxy import feeding

# Targets.


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"//",
        b"/%0d%0a",
        b"/a/../b/%2e%2e/./",
        b"/;a=b?c=d%26e&&=?",
        b"/%zz%",
        b"/?",
        b"/a%00b",
        b"/http://b/",
    ],
)
def test_path_and_query_are_not_touched(target: bytes) -> None:
    """Byte for byte: the application sees what it would have seen without us."""
    line = sent(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n").partition(b"\r\n")[0]
    assert line == b"GET " + target + b" HTTP/1.1"


@pytest.mark.parametrize(
    ("method", "target", "origin"),
    [
        (b"GET", b"http://a/x?y", b"/x?y"),
        (b"GET", b"http://a", b"/"),
        (b"GET", b"HTTPS://a", b"/"),
        (b"GET", b"http://a?x", b"/?x"),
        (b"GET", b"http://a//x", b"//x"),
        (b"GET", b"http://a/%2e%2e", b"/%2e%2e"),
        (b"OPTIONS", b"http://a", b"*"),
        (b"OPTIONS", b"http://a/", b"/"),
        (b"OPTIONS", b"*", b"*"),
        (b"OPTIONS", b"/x", b"/x"),
    ],
)
def test_absolute_form_goes_on_in_origin_form(method: bytes, target: bytes, origin: bytes) -> None:
    """RFC 9112 section 3.2: an empty path is `/`, or `*` for OPTIONS."""
    line = sent(method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n").partition(b"\r\n")[0]
    assert line == method + b" " + origin + b" HTTP/1.1"


def test_the_host_of_an_absolute_target_is_the_host() -> None:
    """Host comes from the authority, once, and first (RFC 9112 section 3.2.2)."""
    result = sent(b"GET http://EXAMPLE.org:81/ HTTP/1.1\r\nX: y\r\nHost: example.ORG:81\r\n\r\n")
    assert result.startswith(b"GET / HTTP/1.1\r\nHost: EXAMPLE.org:81\r\nX: y\r\n")
    assert result.lower().count(b"\r\nhost:") == 1


def test_a_1_0_request_without_host_gets_the_applications() -> None:
    """What goes on is HTTP/1.1, where Host is required."""
    result = sent(b"GET / HTTP/1.0\r\nX: y\r\n\r\n", host=b"127.0.0.1:8080")
    assert result.startswith(b"GET / HTTP/1.1\r\nX: y\r\nHost: 127.0.0.1:8080\r\n")
    assert b"X-Forwarded-Host" not in result


@pytest.mark.parametrize(
    "target",
    [b"*", b"a", b"a/b", b"a:80", b"ftp://a/", b"http:/a", b"http:a", b"?x", b"/a#b", b"http://a/#b", b"#"],
)
def test_any_other_target_is_a_400(target: bytes) -> None:
    """Only the forms of RFC 9112 section 3.2, and none with a fragment."""
    assert refusal(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n") in {
        (InvalidTarget, 400),
        (MalformedHead, 400),
    }


@pytest.mark.parametrize("start", [b"CONNECT a:80", b"TRACE /"])
def test_connect_and_trace_are_a_405(start: bytes) -> None:
    """A gateway to one application has no use for either."""
    assert refusal(start + b" HTTP/1.1\r\nHost: a:80\r\n\r\n") == (MethodRefused, 405)


# Host.


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"EXAMPLE.org",
        b"a:8080",
        b"a:",
        b"127.0.0.1:1",
        b"[::1]",
        b"[::1]:80",
        b"[fe80::1%25eth0]:80",
        b"a_b",
        b"a-b.c~d",
        b"%41",
        b"a;b",
        b"a ",
    ],
)
def test_a_host_and_port_is_a_host(host: bytes) -> None:
    """RFC 3986: a name, an address, brackets around IPv6, perhaps a port."""
    assert b"\r\nHost: " + host.strip() in sent(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b" ",
        b"a b",
        b"a,b",
        b"user@a",
        b"user:pass@a",
        b"a/b",
        b"a?b",
        b"a#b",
        b"http://a",
        b"{a}",
        b"a:80:80",
        b"a:x",
        b"a:-1",
        b"a:123456",
        b"[::1",
        b"::1",
        b"[::1]x",
        b"[]",
        b"\xe4",
        b"a\\b",
        b'"a"',
        b"a%",
        b"a%4",
        b"a\tb",
    ],
)
def test_an_invalid_host_is_a_400(host: bytes) -> None:
    """Whoever routes or logs by it must not be fooled."""
    assert refusal(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n") == (InvalidHost, 400)


@pytest.mark.parametrize("times", [0, 2, 3])
def test_a_host_that_is_missing_or_repeated_is_a_400(times: int) -> None:
    """The same value twice too (RFC 9112 section 3.2)."""
    assert refusal(b"GET / HTTP/1.1\r\n" + b"Host: a\r\n" * times + b"\r\n") == (InvalidHost, 400)


def test_a_repeated_host_is_a_400_in_http_1_0() -> None:
    """1.0 may leave it out, not double it."""
    assert refusal(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n") == (InvalidHost, 400)


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"http://a/", b"b"),
        (b"http://a:81/", b"a"),
        (b"http://a/", b"a:81"),
        (b"http://user@a/", b"a"),
        (b"http:///", b"a"),
        (b"http://a,b/", b"a,b"),
    ],
)
def test_a_host_that_differs_from_the_target_is_a_400(target: bytes, host: bytes) -> None:
    """One request with two names, or with a name that is none."""
    assert refusal(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")[1] == 400


def test_a_good_host_stays_good_and_a_bad_one_bad_when_asked_again() -> None:
    """What is remembered of hosts is only which were good."""
    for _ in range(3):
        assert refusal(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n") == (InvalidHost, 400)
        assert b"Host: again.example" in sent(b"GET / HTTP/1.1\r\nHost: again.example\r\n\r\n")


def sent(raw: bytes, *, host: bytes = b"app") -> bytes:
    """The head that the application gets for `raw`."""
    head = feeding.request(raw)
    target = headers.check_target(head)
    body = framing.request_body(head)
    return headers.request_head(head, target, body, peer=b"10.0.0.9", scheme=b"http", host=host)[0]


def refusal(raw: bytes) -> tuple[type[RequestError], int]:
    """With what `raw` is refused."""
    with pytest.raises(RequestError) as caught:
        sent(raw)
    return type(caught.value), caught.value.status
