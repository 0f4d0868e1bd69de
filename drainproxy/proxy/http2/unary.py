"""Unary gRPC calls with an empty message, one after the other on one connection: for a warm-up.

A client of its own, for no caller: it reads frames, not fields, and so no status. Called by proxy/warmup.py.
"""

from __future__ import annotations

import asyncio
import math
import struct
from typing import TYPE_CHECKING, Final

from drainproxy.errors import UpstreamGone, UpstreamMalformed
from drainproxy.proxy.http2 import frames

if TYPE_CHECKING:
    from drainproxy.proxy.upstream.connection import UpstreamConnection
    from drainproxy.proxy.upstream.pool import Pool

EMPTY_MESSAGE: Final = bytes(5)
"""Not compressed, no byte long (gRPC over HTTP/2, Length-Prefixed-Message)."""
WINDOW: Final = struct.pack(">I", frames.MAX_WINDOW - 65_535)
"""More than any warm-up is answered with, so that nothing has to be given back."""
MAX_FRAME_BYTES: Final = frames.MIN_MAX_FRAME_BYTES


class UnaryCalls:
    """Borrows a connection of a pool, which is not lent to anybody else."""

    def __init__(self, pool: Pool, agent: str) -> None:
        self._pool = pool
        self._agent = agent.encode()
        self._connection: UpstreamConnection | None = None
        self._stream = -1
        self._data = b""
        self._answer: asyncio.Future[None] | None = None

    async def ask(self, path: str) -> int:
        """Call; return 0 once the call has ended, whatever its status. Raises RequestError."""
        connection = self._connection
        if connection is None or connection.lost:
            self._stream, self._data = -1, b""
            connection = self._connection = await self._pool.connect(math.inf, self)
            connection.reader.forget()
            window = frames.frame(frames.WINDOW_UPDATE, 0, 0, WINDOW)
            largest = frames.settings([(frames.INITIAL_WINDOW_SIZE, frames.MAX_WINDOW)])
            connection.transport.write(frames.PREFACE + largest + window)
        self._stream += 2
        secure, authority = self._pool.address.tls, self._pool.address.authority.encode()
        fields = (
            (b":method", b"POST"),
            (b":scheme", b"https" if secure else b"http"),
            (b":path", path.encode()),
            (b":authority", authority),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"user-agent", self._agent),
        )
        block = frames.literals(fields)
        self._answer = asyncio.get_running_loop().create_future()
        connection.transport.write(
            frames.frame(frames.HEADERS, frames.END_HEADERS, self._stream, block)
            + frames.frame(frames.DATA, frames.END_STREAM, self._stream, EMPTY_MESSAGE)
        )
        await self._answer
        return 0

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._pool.discard(self._connection)
            self._connection = None

    # Borrower.

    def upstream_data(self, data: bytes) -> None:
        """Read frames; nothing is kept but one that is not whole."""
        self._data += data
        while len(self._data) >= frames.HEADER_BYTES:
            word, flags, stream = frames.read_header(self._data, 0)
            size = word >> 8
            if size > MAX_FRAME_BYTES:
                self._end(UpstreamMalformed("a frame is larger than was asked for"))
                return
            end = frames.HEADER_BYTES + size
            if len(self._data) < end:
                return
            payload, self._data = self._data[frames.HEADER_BYTES : end], self._data[end:]
            self._frame(word & 0xFF, flags, stream & frames.LAST_STREAM, payload)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        connection = self._connection
        if kind in {frames.SETTINGS, frames.PING} and not flags & frames.ACK and connection is not None:
            answer = payload if kind == frames.PING else b""
            connection.transport.write(frames.frame(kind, frames.ACK, 0, answer))
        elif kind == frames.GOAWAY or (kind == frames.RST_STREAM and stream == self._stream):
            self._end(UpstreamGone())
        elif kind in {frames.HEADERS, frames.DATA} and stream == self._stream and flags & frames.END_STREAM:
            self._end(None)

    def upstream_eof(self) -> None:
        """The application speaks no more: the connection ends."""

    def upstream_lost(self, *, reset: bool) -> None:
        """The connection has ended."""
        self._end(UpstreamGone())

    def upstream_writable(self, *, writable: bool) -> None:
        """What is sent is small, and waits for its answer."""

    def _end(self, error: Exception | None) -> None:
        if error is not None and self._connection is not None:
            self._pool.discard(self._connection)
            self._connection = None
        answer = self._answer
        if answer is not None and not answer.done():
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(error)
