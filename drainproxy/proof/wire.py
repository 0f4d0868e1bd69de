"""Wire: one TCP (or TLS) connection whose bytes come first and whose end comes after them.

asyncio's reader forgets what it has buffered once a reset arrives, and then "reset before the first byte" and
"reset in the middle" look the same. This one takes a note of the reset and just ends. Opened and written by
`client.py`, read by `answers.py`.
"""

import asyncio
from collections.abc import Iterable
from typing import SupportsIndex

MAX_LINE_BYTES = 64 * 1024
"""A whole head, or a line between chunks."""


class Wire(asyncio.StreamReader):
    """Fed by asyncio.StreamReaderProtocol; one reader at a time."""

    # asyncio's own, of which it tells no type.
    _buffer: bytearray
    _transport: asyncio.Transport | None

    def __init__(self) -> None:
        super().__init__(limit=MAX_LINE_BYTES)
        self.error: Exception | None = None  # why it ended; None after an orderly close
        self.stirred = asyncio.Event()  # the peer has spoken or left
        self.ended = False

    @property
    def quiet(self) -> bool:
        """True while the peer has neither spoken nor left: the state an idle connection must be in."""
        return not self.ended and not self._buffer

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        super().feed_data(data)
        self.stirred.set()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.ended = True
        self.stirred.set()
        if self._transport is not None:
            self._transport.close()  # an HTTP client has nothing to say after a FIN

    def set_exception(self, exc: Exception) -> None:
        self.error = exc
        self.feed_eof()
