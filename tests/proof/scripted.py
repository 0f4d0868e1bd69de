"""A server that says exactly the bytes its script says, and ends its connections as it is told.

The nth connection gets the nth script, all later ones the last. Nothing here waits for time to pass.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

from drainproxy.proof.client import Address


class Conversation:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """One request head; IncompleteReadError when the client leaves instead."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def until(self, mark: bytes) -> bytes:
        return await self.reader.readuntil(mark)

    async def client_left(self) -> bytes:
        """Whatever else the client sends before it closes."""
        return await self.reader.read()

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def reset(self) -> None:
        await self.writer.drain()
        peer = self.writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Conversation], Awaitable[None]]


@contextlib.asynccontextmanager
async def serve(*scripts: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Address]:
    playing: list[asyncio.Task[None]] = []

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = scripts[min(len(playing), len(scripts) - 1)]
        playing.append(asyncio.current_task())
        # Cancelled at the end of the block: the streams of Python 3.11 complain of a task that says so.
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            await script(Conversation(reader, writer))
        writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        for task in playing:
            task.cancel()
        if playing:
            await asyncio.wait(playing)


def answering(*answers: bytes) -> Script:
    """One answer after each request head, then an orderly close."""

    async def script(talk: Conversation) -> None:
        for answer in answers:
            await talk.head()
            talk.say(answer)

    return script


def resetting(*answers: bytes) -> Script:
    """As `answering`, with a reset at the end."""

    async def script(talk: Conversation) -> None:
        for answer in answers:
            await talk.head()
            talk.say(answer)
        await talk.reset()

    return script


async def for_ever_ok(talk: Conversation) -> None:
    while True:
        await talk.head()
        talk.say(OK)


async def silent(talk: Conversation) -> None:
    await talk.client_left()


def closed_port() -> Address:
    """An address nobody listens on: bound once, so that it exists, and closed."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        address: Address = holder.getsockname()
        return address


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
OK_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
