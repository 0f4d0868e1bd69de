"""Where does a ClientHello end? Read before OpenSSL gets it, which makes room for as much as its header says
and keeps that until the handshake is over, for anybody. Pure (RFC 8446 sections 4 and 5.1).
"""

from __future__ import annotations

from typing import Final

MAX_BYTES: Final = 16 * 1024
"""A ClientHello that says it is larger is refused. They have some 500 bytes, 2 KiB with post-quantum keys."""
MAX_RECORDS: Final = 16
"""Over so many a ClientHello may be spread: one byte a record is a trick."""


def is_whole(data: bytes) -> bool:
    """Tell whether OpenSSL may have `data`: all of a ClientHello, or what will never be one, whose fault it
    names. Raises ValueError for one that is too large."""
    at, got, size = 0, b"", 0
    for _ in range(MAX_RECORDS):
        if data[at : at + 1] not in {b"", b"\x16"}:
            return True
        if len(data) < at + 5:
            return False
        end = at + 5 + int.from_bytes(data[at + 3 : at + 5])
        piece = data[at + 5 : end]
        got = (got + piece)[:4]
        size += len(piece)
        if got[:1] not in {b"", b"\x01"}:
            return True
        if len(got) == 4:
            said = int.from_bytes(got[1:4])
            if said > MAX_BYTES:
                raise ValueError("a ClientHello that is too large")
            if size >= 4 + said:
                return True
        if end > len(data):
            return False
        at = end
    raise ValueError("a ClientHello in too many records")
