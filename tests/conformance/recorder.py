"""The application behind the proxy under test: it records every byte and answers by name.

Each whole request gets an answer that names the connection, its place on it and what was read,
so that a reply can be traced to the request it answers.  A `Script` replaces the answer to
ordinary requests by prepared bytes.  Sentinels always get their own token.
"""

from __future__ import annotations

import asyncio
import hashlib
import select
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.conformance.pace import pieces
from tests.conformance.witness import Message, RequestWitness

if TYPE_CHECKING:
    from tests.conformance.bell import Bell

SENTINEL = b"/sentinel/"
PRIME = b"/prime/"
BEFORE_RST_S = 0.03  # lets the proxy read and forward what came before: the harder case
LINGER_S = 1.0  # how long an application that answers early waits for the proxy to let go
LOOK_S = 0.005
KEEP_S = 0.4  # how long `settle` stays open before its FIN


@dataclass(frozen=True, slots=True)
class Script:
    """What the application sends instead of an answer, and what it does next.

    `after`: keep, close, rst, stall, close-before-reading-body, or settle (keep, then close).
    """

    parts: tuple[bytes, ...]
    after: str
    bytewise: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """What the recorder holds from one connection since `begin`."""

    number: int
    raw: bytes
    messages: tuple[Message, ...]
    names: tuple[str, ...]
    partial: bool
    error: str
    open: bool
    tunnel: bytes = b""  # what came after a 101


class Recorder:
    """The listening side; `begin` starts a case, `held` tells what came since."""

    def __init__(self, bell: Bell) -> None:
        self.bell = bell
        self.script: Script | None = None
        self.connections: list[Connection] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._made = 0

    async def start(self) -> None:
        """Listen on a free loopback port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listener and every connection."""
        if self._server:
            self._server.close()
        self.close_all()

    def close_all(self) -> None:
        """Close every connection from the application's side."""
        for connection in self.connections:
            connection.transport.close()

    def begin(self, script: Script | None = None) -> None:
        """Forget closed connections and all that open ones hold; answer by script from now on."""
        self.script = script
        self.connections = [c for c in self.connections if c.open]
        for connection in self.connections:
            connection.forget()

    def held(self) -> list[Held]:
        """Give what arrived since `begin`, connections without a byte left out."""
        return [c.held() for c in self.connections if c.raw]

    def open_count(self) -> int:
        """How many connections are open."""
        return sum(c.open for c in self.connections)

    def number(self) -> int:
        """Give a new connection its number."""
        self._made += 1
        return self._made


class Connection(asyncio.Protocol):
    """One connection from the proxy; written only by its own callbacks and script task."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.number = recorder.number()
        self.raw = bytearray()
        self.open = True
        self.transport: asyncio.Transport
        self._witness = RequestWitness()
        self._names: list[str] = []
        self._from = 0  # first message of this case
        self._task: asyncio.Task[None] | None = None
        self._tunnel: bytearray | None = None  # once a script has said 101

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the recorder's connections."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.recorder.connections.append(self)
        self.recorder.bell.ring()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember that it is over."""
        self.open = False
        if self._task:
            self._task.cancel()
        self.recorder.bell.ring()

    def data_received(self, data: bytes) -> None:
        """Record, read with h11, answer what is whole."""
        self.recorder.bell.ring()
        if self._tunnel is not None:
            self._tunnel += data
            return
        self.raw += data
        before = len(self._witness.messages)
        done = self._witness.feed(data)
        for message in done:
            self._answer(message)
        if self._witness.error:
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()
        elif len(self._witness.messages) > before and self._witness.partial:
            self._head_only()

    def forget(self) -> None:
        """Start a new case on a connection that stays."""
        self.raw.clear()
        self._names.clear()
        self._from = len(self._witness.messages)

    def held(self) -> Held:
        """Give what this connection holds."""
        return Held(
            number=self.number,
            raw=bytes(self.raw),
            messages=tuple(self._witness.messages[self._from :]),
            names=tuple(self._names),
            partial=self._witness.partial,
            error=self._witness.error,
            open=self.open,
            tunnel=bytes(self._tunnel or b""),
        )

    def _head_only(self) -> None:
        """Act on a head whose body has yet to come."""
        script = self.recorder.script
        if script and script.after == "close-before-reading-body":
            self.transport.pause_reading()
            self._play(script)
        elif self._witness.wants_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _answer(self, message: Message) -> None:
        target = message.target
        if target.startswith((SENTINEL, PRIME)):
            closes = target.startswith(SENTINEL)
            self._send(message, name=target.rsplit(b"/", 1)[-1].decode(), closes=closes)
        elif self.recorder.script:
            self._play(self.recorder.script)
        else:
            name = f"{self.number}.{len(self._names)}"
            self._names.append(name)
            self._send(message, name=name, closes=False)

    def _send(self, message: Message, *, name: str, closes: bool) -> None:
        body = body_of(name, message)
        head = f"HTTP/1.1 200 OK\r\nX-Answer: {name}\r\nContent-Length: {len(body)}\r\n"
        head += "Connection: close\r\n\r\n" if closes else "\r\n"
        self.transport.write(head.encode() + (b"" if message.method == b"HEAD" else body))
        if closes:
            self.transport.close()

    def _play(self, script: Script) -> None:
        self._names.append("script")
        if b"".join(script.parts).startswith(b"HTTP/1.1 101 "):
            self._tunnel = bytearray()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(script))

    async def _run(self, script: Script) -> None:
        for part in script.parts:
            for piece in pieces(part, bytewise=script.bytewise):
                self.transport.write(piece)
                await asyncio.sleep(0)
        self._task = None
        if script.after == "close":
            self.transport.close()
        elif script.after == "close-before-reading-body":
            self.transport.write_eof()
            await self._peer_gone()
            self.transport.close()  # with unread bytes: the kernel makes it an RST
        elif script.after == "settle":
            await asyncio.sleep(KEEP_S)
            self.transport.close()
        elif script.after == "rst":
            await asyncio.sleep(BEFORE_RST_S)
            reset(self.transport)

    async def _peer_gone(self) -> None:
        """Wait for the proxy to close, without reading.

        RFC 9112 9.6: an RST right after the answer takes the answer away, from any proxy.
        A transport that does not read is not told of the peer's close, so look for it.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LINGER_S
        descriptor = self.transport.get_extra_info("socket").fileno()
        while loop.time() < deadline and not _hung_up(descriptor):
            await asyncio.sleep(LOOK_S)


def _hung_up(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return bool(poll.poll(0))


def body_of(name: str, message: Message) -> bytes:
    """Give the body of the answer called `name`: the name and a digest of what was read."""
    digest = hashlib.sha256(message.method + b" " + message.target + b"\n" + message.body)
    return f"{name} {digest.hexdigest()}\n".encode()


def reset(transport: asyncio.Transport) -> None:
    """Close with RST."""
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
