"""Who the client is, in the words of a proxy before us, byte by byte."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.proxy.wire import proxy_protocol

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command: int, family: int, rest: bytes, size: int | None = None) -> bytes:
    """Return a header of version 2."""
    length = len(rest) if size is None else size
    return SIGNATURE + bytes((command, family)) + length.to_bytes(2) + rest


IPV4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("10.0.0.1") + b"\x12\x34\x01\xbb"
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + b"\x12\x34\x01\xbb"
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:203.0.113.7") * 2 + b"\x12\x34\x01\xbb"
TLVS = b"\x02\x00\x04name" + b"\xea\x00\x03\x01\x02\x03"

GOOD = {
    "v1 TCP4": (b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n", b"203.0.113.7"),
    "v1 TCP6": (b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n", b"2001:db8::7"),
    "v1 mapped": (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", b"203.0.113.7"),
    "v1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "v1 UNKNOWN with anything": (b"PROXY UNKNOWN ff:ff x y z\r\n", None),
    "v1 longest": (b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", None),
    "v2 TCP4": (v2(0x21, 0x11, IPV4), b"203.0.113.7"),
    "v2 TCP6": (v2(0x21, 0x21, IPV6), b"2001:db8::7"),
    "v2 mapped": (v2(0x21, 0x21, MAPPED), b"203.0.113.7"),
    "v2 with TLVs": (v2(0x21, 0x11, IPV4 + TLVS), b"203.0.113.7"),
    "v2 LOCAL": (v2(0x20, 0x00, b""), None),
    "v2 LOCAL with anything": (v2(0x20, 0xFF, b"x" * 300), None),
    "v2 UNSPEC": (v2(0x21, 0x00, TLVS), None),
    "v2 Unix": (v2(0x21, 0x31, b"x" * 216), None),
    "v2 longest": (v2(0x21, 0x11, IPV4 + b"x" * (4096 - 16 - 12)), b"203.0.113.7"),
}

BAD = {
    "HTTP": b"GET / HTTP/1.1\r\n",
    "TLS": b"\x16\x03\x01\x02\x00",
    "lower case": b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
    "v1 other family": b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n",
    "v1 wrong family": b"PROXY TCP4 ::1 ::1 1 1\r\n",
    "v1 no address": b"PROXY TCP4 evil 1.1.1.1 1 1\r\n",
    "v1 scope": b"PROXY TCP6 fe80::1%a\0b ::1 1 1\r\n",
    "v1 leading zero": b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n",
    "v1 port": b"PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n",
    "v1 two spaces": b"PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n",
    "v1 tail": b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n",
    "v1 bare LF": b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n",
    "v1 bare CR": b"PROXY UNKNOWN \r x\r\n",
    "v1 short": b"PROXY TCP4 1.1.1.1\r\n",
    "v1 empty": b"PROXY \r\n",
    "v1 endless": b"PROXY UNKNOWN " + b"x" * 93,
    "v2 version": v2(0x11, 0x11, IPV4),
    "v2 command": v2(0x22, 0x11, IPV4),
    "v2 UDP": v2(0x21, 0x12, IPV4),
    "v2 family": v2(0x21, 0x41, IPV4),
    "v2 short": v2(0x21, 0x11, IPV4[:11]),
    "v2 short for IPv6": v2(0x21, 0x21, IPV4),
    "v2 too long": v2(0x21, 0x11, b"", size=4081),
}


@pytest.mark.parametrize(("raw", "client"), GOOD.values(), ids=GOOD)
def test_a_header_is_read_when_its_last_byte_is_there_and_not_before(raw, client):
    for end in range(len(raw)):
        assert proxy_protocol.read(raw[:end]) is None
    assert proxy_protocol.read(raw) == (client, len(raw))
    assert proxy_protocol.read(raw + b"GET / HTTP/1.1\r\n") == (client, len(raw))


@pytest.mark.parametrize("raw", BAD.values(), ids=BAD)
def test_what_is_no_header_is_refused(raw):
    with pytest.raises(ValueError, match="."):
        proxy_protocol.read(raw)


@given(
    st.sampled_from([b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11\x00", b"", *dict(GOOD.values())]),
    st.binary(max_size=200),
    st.integers(0, 400),
)
def test_any_bytes_are_a_header_or_incomplete_or_refused_wherever_they_are_cut(start, rest, cut):
    """More bytes change no verdict: what was refused stays so, and what was whole too."""
    raw = start + rest
    whole, part = verdict(raw), verdict(raw[:cut])
    if part is not None:
        assert part == whole
    elif whole is not None and whole != "refused":
        assert cut < whole[1] <= len(raw)


def verdict(raw: bytes):
    """Return what was read, None for too little, "refused"."""
    try:
        return proxy_protocol.read(raw)
    except ValueError:
        return "refused"


SAID = {
    "v4": ("203.0.113.7", "10.0.0.1", b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n", v2(0x21, 0x11, IPV4)),
    "v6": (
        "2001:db8::7",
        "2001:db8::7",
        b"PROXY TCP6 2001:db8::7 2001:db8::7 4660 443\r\n",
        v2(0x21, 0x21, IPV6),
    ),
    "mapped": (
        "::ffff:203.0.113.7",
        "::ffff:10.0.0.1",
        b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 443\r\n",
        v2(0x21, 0x11, IPV4),
    ),
    "scoped": (
        "fe80::1%eth0",
        "fe80::2%eth0",
        b"PROXY TCP6 fe80::1 fe80::2 4660 443\r\n",
        v2(0x21, 0x21, b"\xfe\x80" + bytes(13) + b"\x01\xfe\x80" + bytes(13) + b"\x02\x12\x34\x01\xbb"),
    ),
}


@pytest.mark.parametrize(("source", "destination", "first", "second"), SAID.values(), ids=SAID)
def test_what_is_said_is_what_the_socket_says(source, destination, first, second):
    """In both versions, and as it is read here."""
    addresses = (source, 0x1234, 0, 0), (destination, 443, 0, 0)
    assert proxy_protocol.said("v1", *addresses) == first
    assert proxy_protocol.said("v2", *addresses) == second
    assert proxy_protocol.read(first) == (
        source.removeprefix("::ffff:").partition("%")[0].encode(),
        len(first),
    )
    assert proxy_protocol.read(second)[1] == len(second)


def test_a_socket_without_addresses_is_nobody_in_particular():
    """It was closed in the meantime."""
    assert proxy_protocol.said("v1", None, ("10.0.0.1", 1)) == b"PROXY UNKNOWN\r\n"
    assert proxy_protocol.said("v2", ("10.0.0.1", 1), None) == v2(0x20, 0, b"")
