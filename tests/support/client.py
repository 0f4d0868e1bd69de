"""A client that sends exactly the bytes it is told to and reads exactly what comes."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from tests.support.message import Message, read_response
from tests.support.session import Session
from tests.support.wire import PATIENCE_S, End, Wire

if TYPE_CHECKING:
    import ssl


class Client(Wire):
    """One connection."""

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int] | str,
        *,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
        name: str = "localhost",
    ) -> Client:
        """Connect to (host, port) or to a Unix socket's path.

        `receive_buffer`: bytes the kernel holds for a client that does not read; before it connects, since
        the window is offered then. `tls`: speak it, to the server called `name`; see Wire.session.
        """
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if not isinstance(address, str) and ":" in address[0]:
            family = socket.AF_INET6
        wire = socket.socket(family)
        wire.setblocking(False)
        if receive_buffer is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.get_running_loop().sock_connect(wire, address)
        except BaseException:
            wire.close()
            raise
        client = cls(wire)
        if tls is not None:
            client.session = Session(tls, name=name)
        return client

    async def read_response(self, method: str = "GET") -> Message:
        """Read the next response, a 1xx too. `method` is the request's: HEAD has no body."""
        return await read_response(self, method=method)

    async def ask(self, request: bytes) -> Message:
        """Send a request and read its final response."""
        await self.send(request)
        return await self.final(request.partition(b" ")[0].decode())

    async def final(self, method: str = "GET") -> Message:
        """Read the next response that is not a 1xx."""
        while True:
            response = await self.read_response(method)
            if response.status >= 200 or not response.status:
                return response

    async def read_eof(self) -> End:
        """Wait until the other side closes without another byte; return how."""
        rest = await self.read_until_close()
        assert not rest, f"bytes before the end: {rest[:400]!r}"
        assert self.end is not None
        return self.end

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
