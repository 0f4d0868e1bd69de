"""Cutting bytes into the pieces that are written one by one.

Byte by byte finds parsers that lose state between two reads.  Long inputs are cut that finely
only at both ends, where their syntax is; the middle of a 100 KB field is all alike.
"""

from __future__ import annotations

EDGE_BYTES = 1024
MIDDLE_BYTES = 4096


def pieces(data: bytes, *, bytewise: bool) -> list[bytes]:
    """Cut data: whole, or byte by byte at the edges."""
    if not bytewise:
        return [data] if data else []
    head, rest = data[:EDGE_BYTES], data[EDGE_BYTES:]
    middle, tail = rest[:-EDGE_BYTES], rest[-EDGE_BYTES:]
    cut = [middle[at : at + MIDDLE_BYTES] for at in range(0, len(middle), MIDDLE_BYTES)]
    return [*_bytes(head), *cut, *_bytes(tail)]


def _bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]
