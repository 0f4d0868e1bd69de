"""Wire: one TCP (or TLS) connection as an ordered buffer of bytes that ends for a known reason.

asyncio's StreamReader drops what it has buffered once a reset arrives, and then "reset before the
first byte" and "reset in the middle" look the same. Here bytes come first, the end comes after them.
Used by `answers.py` to read and by `client.py` to connect and write.
"""

import asyncio

_PAUSE_ABOVE_BYTES = 256 * 1024


class Wire(asyncio.Protocol):
    """Written by the loop's callbacks only; one reader at a time."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.ended = False
        self.error: Exception | None = None  # why it ended; None after an orderly close
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False

    @property
    def quiet(self) -> bool:
        """True while the peer has neither spoken nor left: the state an idle connection must be in."""
        return not self.ended and not self.buffer

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self.ended:
            self._transport.write(data)

    def take(self, size: int) -> bytes:
        """Remove and return at most `size` buffered bytes."""
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        if self._paused and self._transport is not None and not self.ended:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def more(self) -> bool:
        """Wait for bytes beyond those buffered; False once the connection has ended."""
        if self.ended:
            return False
        before = len(self.buffer)
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        return len(self.buffer) > before

    async def stirs_within(self, seconds: float) -> bool:
        """True as soon as the peer speaks or leaves, False after `seconds` of neither."""
        if not self.quiet:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self.more()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Say goodbye in order: what was written still goes out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Leave at once: for an exchange that was given up."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) > _PAUSE_ABOVE_BYTES and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._end(None)
        return False  # the transport closes itself: an HTTP client has nothing to say after a FIN

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        if not self.ended:
            self.ended = True
            self.error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
