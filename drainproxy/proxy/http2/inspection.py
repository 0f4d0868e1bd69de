"""Reading what a client asks over HTTP/2, without touching it: for routes, deadlines and access lines.

Switched on with `h2_inspect`. The only import of hpack. Every header block of the client has to be read, in
order, for the table of header compression to stay in step (RFC 7541 section 2.2).
"""

from typing import Any

import hpack

from drainproxy.proxy.http2 import frames
from drainproxy.proxy.http2.faults import Code, FrameFault
from drainproxy.proxy.http2.stream import Stream

PADDED, PRIORITY = 0x8, 0x20
MAX_KNOWN, MAX_KNOWN_BYTES = 64, 512


class Inspection:
    """Of one client connection."""

    __slots__ = ("_block", "_decoder", "_known", "_stream")

    def __init__(self, max_bytes: int) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=max_bytes)
        self._block = b""
        self._stream: Stream | None = None
        self._known: dict[bytes, dict[bytes, bytes]] = {}

    def allow_table(self, size: int) -> None:
        """The application has said how large a table of header compression it keeps."""
        self._decoder.max_allowed_table_size = size

    def headers(self, flags: int, payload: bytes, stream: Stream | None) -> None:
        """Take the HEADERS of a stream, None if it is not open any more. Raises FrameFault."""
        start, end = 0, len(payload)
        if flags & PADDED:
            start, end = 1, end - (payload[0] if end else 0)
        if flags & PRIORITY:
            start += 5
        if start > end:
            raise FrameFault(Code.PROTOCOL_ERROR, "more padding than payload")
        self._block, self._stream = payload[start:end], stream
        self._ended(flags)

    def continuation(self, flags: int, payload: bytes, opened: Stream | None) -> None:
        """Take a CONTINUATION, and the stream that it has opened, if it has. Raises FrameFault."""
        self._block += payload
        if opened is not None:
            self._stream = opened
        self._ended(flags)

    def _ended(self, flags: int) -> None:
        if not flags & frames.END_HEADERS:
            return
        fields = self._known.get(self._block)
        if fields is None:
            fields = self._decode(self._block)
        if self._stream is not None and not self._stream.method:
            self._stream.asks(fields)

    def _decode(self, block: bytes) -> dict[bytes, bytes]:
        before = self._table()
        try:
            decoded = self._decoder.decode(block, raw=True)
        except hpack.HPACKError:
            raise FrameFault(Code.COMPRESSION_ERROR, "a header block that cannot be read") from None
        fields = {bytes(name): bytes(value) for name, value, *_ in decoded}
        newest, *sizes = self._table()
        if newest is not before[0] or sizes != before[1:]:
            self._known.clear()
        elif len(self._known) < MAX_KNOWN and len(block) <= MAX_KNOWN_BYTES:
            # The same bytes mean the same until a block changes the table, and clients repeat themselves.
            self._known[block] = fields
        return fields

    def _table(self) -> list[Any]:
        """Return the newest entry of the table and its sizes: something else once an entry has come."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return [entries[0] if entries else None, len(entries), table.maxsize]
