"""What things take, in bytes of this process's memory: for the account of what is held (buffers.py).

Measured as growth of resident memory over thousands of each, on both event loops, and held to it by
tests/integration/test_states.py. A byte that waits is a byte; these are the objects around it.
"""

import asyncio
import collections
import sys
from typing import Final

CLIENT_BYTES: Final = 3072
"""A connection from a client that has said nothing, with its place in tables of thousands."""
PARSER_BYTES: Final = 768
"""What one that has asked in HTTP/1 keeps for its next request."""
UPSTREAM_BYTES: Final = 1792
"""A connection to the application."""
WORK_BYTES: Final = 1536
"""A request, a tunnel, or something that has begun."""
OBJECT_BYTES: Final = 48
"""A bytes object beyond its bytes, with its place in a list."""
READER_BYTES: Final = 640
"""What reads a head that has begun, and what waits for its end."""
LARGE_HEAD_BYTES: Final = 2 * 1024
"""A request's head that is smaller is part of what a piece of work takes anyway."""

SESSION_BYTES: Final = 18 * 1024
RECORD_BYTES: Final = 17 * 1024
HANDSHAKE_BYTES: Final = 24 * 1024
"""What OpenSSL takes for a session, for a record that is not complete, and for a handshake on top."""

HTTP2_BYTES: Final = 4 * 1024
"""The books of an HTTP/2 connection beyond those of any connection."""
STREAM_BYTES: Final = 144
"""An HTTP/2 stream: less than other work."""
STREAM_TIMES_BYTES: Final = 208
"""The times by which it is to get how far, where there are any."""
RESET_BYTES: Final = 96
"""A stream that was reset, and is remembered."""

SOCKET_BYTES: Final = 3584
"""What the kernel keeps for a TCP connection without any bytes: sockets, files and what finds them."""


def transport_bytes(loop: asyncio.AbstractEventLoop) -> int:
    """Return what a transport of `loop` takes beyond those of uvloop and of asyncio before 3.12: since then
    asyncio's have a deque for what waits, which is large before anything does."""
    has_deque = isinstance(loop, asyncio.SelectorEventLoop) and sys.version_info >= (3, 12)
    return sys.getsizeof(collections.deque()) if has_deque else 0
