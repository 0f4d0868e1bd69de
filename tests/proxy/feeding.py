"""Bytes into a reader, in the ways in which a network may cut them."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from drainproxy.proxy.message.parser import RequestReader, ResponseReader
from drainproxy.proxy.settings import ProxySettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.proxy.message.parser import RequestHead, ResponseHead

WAYS = ("whole", "bytewise", "with more behind")
BEHIND = b"GET /next HTTP/1.1\r\nHost: b\r\n\r\n"


def pieces(raw: bytes, way: str) -> Iterator[bytes]:
    """Cut `raw`."""
    if way == "bytewise":
        for at in range(len(raw)):
            yield raw[at : at + 1]
    else:
        yield raw + (BEHIND if way == "with more behind" else b"")


def read(reader: RequestReader | ResponseReader, raw: bytes, way: str) -> RequestHead | ResponseHead:
    """Return the head in `raw`, which must end with its last byte. Raises what the reader raises."""
    found = None
    for piece in pieces(raw, way):
        assert found is None, "the head was complete before its end"
        found = reader.feed(piece)
    assert found is not None, "the head is not complete"
    head, rest = found
    assert rest == (BEHIND if way == "with more behind" else b"")
    return head


def request(raw: bytes, way: str = "whole", **limits: int) -> RequestHead:
    """Return the request head in `raw`."""
    return cast("RequestHead", read(RequestReader(ProxySettings(**limits)), raw, way))


def response(raw: bytes, way: str = "whole") -> ResponseHead:
    """Return the response head in `raw`."""
    return cast("ResponseHead", read(ResponseReader(), raw, way))
