"""The PROXY protocol, versions 1 and 2: who is the client behind this connection? Pure.

As haproxy.org's proxy-protocol.txt has it. One header before everything else, by who is trusted to send it:
whether that is so, and how long it is waited for, preamble.py decides. tcp.py says it to the application.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from typing import Final

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
MAX_V1_BYTES: Final = 107
MAX_V2_BYTES: Final = 4096
"""Of the 64 KiB that the length could say: the addresses take 36, and what balancers add a few hundred."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_ADDRESS: Final = rb"[\dA-Fa-f:.]+"
"""Without the scope that an IPv6 address may have: it can hold any character."""
_V1: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|(TCP[46]) (%b) (%b) (\d{1,5}) (\d{1,5}))\r\n" % (_ADDRESS, _ADDRESS)
)
_PORT: Final = re.compile(rb"0|[1-9]\d{0,4}")
_LOCAL, _PROXY = 0x20, 0x21
_FAMILIES: Final = {0x11: (4, 12), 0x21: (16, 36)}
"""TCP over IPv4 and IPv6: bytes of an address, and of all that the header says with it."""
_WITHOUT_ADDRESS: Final = frozenset((0x00, 0x31))
"""UNSPEC, and a Unix socket: nothing that could be a client's address."""


def read(data: bytes) -> tuple[bytes | None, int] | None:
    """Return the client's address, if it is told, and the header's size; None while it is incomplete.

    Raises ValueError for what is no such header.
    """
    if data[:12] == SIGNATURE[: len(data)]:
        return _version_2(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _version_1(data)
    raise ValueError("no PROXY header")


def said(version: str, source: object, destination: object) -> bytes:
    """Return the header, `v1` or `v2`, that says who has connected and to what: both as a TCP socket names
    them, or None where it does not any more."""
    if not isinstance(source, tuple) or not isinstance(destination, tuple):
        return b"PROXY UNKNOWN\r\n" if version == "v1" else SIGNATURE + bytes((_LOCAL, 0, 0, 0))
    addresses = [_unmapped(ipaddress.ip_address(each[0].partition("%")[0])) for each in (source, destination)]
    kind, ports = addresses[0].version, (source[1], destination[1])
    if version == "v1":
        return "PROXY TCP{} {} {} {} {}\r\n".format(kind, *addresses, *ports).encode()
    block = b"".join(address.packed for address in addresses) + struct.pack(">HH", *ports)
    return SIGNATURE + bytes((_PROXY, 0x21 if kind == 6 else 0x11)) + len(block).to_bytes(2) + block


def _version_1(data: bytes) -> tuple[bytes | None, int] | None:
    end = data.find(b"\n", 0, MAX_V1_BYTES) + 1
    if not end:
        if len(data) >= MAX_V1_BYTES:
            raise ValueError("a PROXY header without an end")
        return None
    match = _V1.fullmatch(data[:end])
    if match is None:
        raise ValueError("a malformed PROXY header")
    family, source, destination, *ports = match.groups()
    if family is None:
        return None, end
    kind = ipaddress.IPv4Address if family == b"TCP4" else ipaddress.IPv6Address
    for address in (source, destination):
        kind(address.decode("ascii", "replace"))
    if not all(_PORT.fullmatch(port) and int(port) < 65536 for port in ports):
        raise ValueError("a PROXY header with a bad port")
    return _text(kind(source.decode())), end


def _version_2(data: bytes) -> tuple[bytes | None, int] | None:
    if len(data) < 16:
        return None
    command, family, size = data[12], data[13], int.from_bytes(data[14:16])
    if command not in {_LOCAL, _PROXY}:
        raise ValueError("a PROXY header of an unknown version or command")
    if size > MAX_V2_BYTES - 16:
        raise ValueError("a PROXY header that is too long")
    if command == _PROXY and family not in _WITHOUT_ADDRESS and family not in _FAMILIES:
        raise ValueError("a PROXY header of an unknown family")
    told = command == _PROXY and family in _FAMILIES
    address_bytes, least = _FAMILIES[family] if told else (0, 0)
    if size < least:
        raise ValueError("a PROXY header shorter than its addresses")
    if len(data) < 16 + size:
        return None
    if not told:
        return None, 16 + size
    return _text(ipaddress.ip_address(data[16 : 16 + address_bytes])), 16 + size


def _text(address: _Address) -> bytes:
    return str(_unmapped(address)).encode()


def _unmapped(address: _Address) -> _Address:
    return getattr(address, "ipv4_mapped", None) or address
