"""`python upload_application.py KIND PORT`: who takes the uploads of `uploads.py`, and answers how much came.

`sink` reads into one buffer and looks at nothing but a body's end, so that it is never what is waited for;
`aiohttp` is an application as it is written. The bodies hold no line ends: five bytes tell the last chunk.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, cast

import uvloop
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

READ_BYTES = 256 * 1024
LAST_CHUNK = b"0\r\n\r\n"


class Sink(asyncio.BufferedProtocol):
    """Takes one request after another. Written by its transport."""

    _buffer = bytearray(READ_BYTES)
    """One for all: nothing in it is wanted any longer than a call."""

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        """The last bytes of a chunked body."""
        self._left = -1
        """What is missing of a body with a length; -1: of none, or of a chunked one."""
        self._came = -1
        """Bytes of a body, as they were framed; -1 between two requests."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BufferedProtocol."""
        self._wire = cast("asyncio.Transport", transport)

    def get_buffer(self, _sizehint: int) -> bytearray:
        """See asyncio.BufferedProtocol."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        if self._came >= 0:
            self._body(nbytes, self._buffer[max(0, nbytes - len(LAST_CHUNK)) : nbytes])
            return
        self._head += self._buffer[:nbytes]
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return
        self._head, self._tail, self._came = b"", b"", 0
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
        chunked = b"transfer-encoding" in fields
        self._left = -1 if chunked else int(fields.get(b"content-length", b"0"))
        self._body(len(rest), rest[-len(LAST_CHUNK) :])

    def _body(self, size: int, tail: bytes | bytearray) -> None:
        self._came += size
        if self._left < 0:
            self._tail = (self._tail + tail)[-len(LAST_CHUNK) :]
            complete = self._tail == LAST_CHUNK
        else:
            self._left -= size
            complete = self._left <= 0
        if complete:
            told = b"%d" % self._came
            self._came = -1
            self._wire.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))


async def _counted(request: web.Request) -> web.Response:
    came = 0
    async for piece in request.content.iter_any():
        came += len(piece)
    return web.Response(text=str(came))


async def _sink(port: int) -> None:
    await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)


async def _aiohttp(port: int) -> None:
    application = web.Application(client_max_size=0)
    application.router.add_route("*", "/{path:.*}", _counted)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()


KINDS: dict[str, Callable[[int], Awaitable[None]]] = {"sink": _sink, "aiohttp": _aiohttp}


async def _serve(kind: str, port: int) -> None:
    await KINDS[kind](port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], int(sys.argv[2])))
