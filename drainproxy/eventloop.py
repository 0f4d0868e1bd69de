"""The one door to uvloop: its loop, and one thing of it mended.

uvloop (0.23) may close a socket that it was given while the Python object goes on to name the descriptor:
whenever the transport ends before its maker hears of it, as in a TLS handshake with somebody who resets at
once. The object's own close, or the collector's, then hits whoever has got the number since: a client.
The API server's client makes all its connections so (docs/decisions/0014-descriptors.md). Called by
cli/main.py.
"""

import socket
from typing import Any

import uvloop


class Loop(uvloop.Loop):
    """uvloop's, in which a descriptor has one owner."""

    async def create_connection(
        self, *arguments: Any, sock: socket.socket | None = None, **options: Any
    ) -> Any:
        """See asyncio.loop.create_connection. `sock` is the loop's from here on, whatever becomes of it."""
        try:
            return await super().create_connection(*arguments, sock=sock, **options)
        finally:
            if sock is not None:
                sock.detach()
