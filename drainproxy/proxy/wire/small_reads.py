"""Reads into a buffer that all share, where there is little room for buffers. Made by endpoint.py."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from drainproxy.proxy.wire.buffers import SMALL_BYTES


class SmallReads(asyncio.BufferedProtocol):
    """Stands before a protocol and has it given no more than SMALL_BYTES at a time."""

    __slots__ = ("reader",)
    _buffer: ClassVar = memoryview(bytearray(SMALL_BYTES))
    """One for all: what was read is handed on before anything else is read."""

    def __init__(self, reader: asyncio.Protocol) -> None:
        self.reader = reader

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        self.reader.data_received(bytes(self._buffer[:nbytes]))

    def eof_received(self) -> bool | None:
        """See asyncio.BufferedProtocol."""
        return self.reader.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BufferedProtocol."""
        self.reader.connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.BufferedProtocol."""
        self.reader.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.BufferedProtocol."""
        self.reader.resume_writing()
