"""An application that speaks WebSocket and says each message again: `python websocket_echo.py PORT`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import sys
from typing import cast

import uvloop

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PAYLOAD_BYTES = 32
ASKED_BYTES = 6 + PAYLOAD_BYTES
"""A frame of a client: two bytes, a mask, the message (RFC 6455 section 5.2). Ours mask with zeros."""


class Echo(asyncio.Protocol):
    """One connection. Only frames of one size come."""

    def __init__(self) -> None:
        self._said = b""
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._wire = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        data = self._said + data
        if not self._open:
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self._said = head
                return
            self._open = True
            key = re.findall(rb"(?i)^sec-websocket-key: *(\S+)", head, re.MULTILINE)[0]
            accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324 - the protocol's choice
            self._wire.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
            )
        while len(data) >= ASKED_BYTES:
            self._wire.write(b"\x82%c%b" % (PAYLOAD_BYTES, data[6:ASKED_BYTES]))
            data = data[ASKED_BYTES:]
        self._said = data


async def main() -> None:
    """Serve until the end."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
