"""Every state that a client can stop in, and crowds of clients that do.

A state is what such a client sends, step by step. It holds still then: it neither goes on nor goes away, and
reads only what it has to in order to get where it wants to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from tests.support.http2 import END_HEADERS, HEADERS, PREFACE, RST, SETTINGS, frame, settings
from tests.support.session import Session
from tests.support.words import asks, get, upgrade

if TYPE_CHECKING:
    import ssl

KIB = 1024
AT_ONCE = 64
"""Clients that are on their way to where they stop."""
A_SECOND = 1_000
"""So many come, so that the rest of the callers do not wait behind them in the kernel's queue."""
STEP_S = 10.0
"""For so long a step waits for its answer: a client that is not answered stops where it is."""
GET = get("/small")
HELD = get("/held")
CHUNKED = asks("POST", "/unread", "Transfer-Encoding: chunked")
POST = asks("POST", "/unread", "Content-Length: 9999999")
LONG_PATH = b"\0\x05:path\x7f\xb9\x16/" + b"a" * 2_999
"""A literal that is not indexed (RFC 7541 section 6.2.2)."""


def fields(size: int, each: int = 900) -> bytes:
    """Return so many bytes of fields of one size."""
    return (b"X: " + b"y" * (each - 5) + b"\r\n") * (size // each)


def request(size: int, path: bytes = b"/held") -> bytes:
    """Return a request with a head of about this size."""
    return b"GET %b HTTP/1.1\r\nHost: a\r\n" % path + fields(size) + b"\r\n"


def client_hello(size: int, says: int) -> bytes:
    """Return the beginning of a ClientHello that says how large it is (RFC 8446 section 4.1.2)."""
    records = b"\x01" + says.to_bytes(3) + b"\x03\x03" + bytes(size)
    pieces = [records[at : at + 16_384] for at in range(0, size, 16_384)]
    return b"".join(b"\x16\x03\x01" + struct.pack(">H", len(piece)) + piece for piece in pieces)[:size]


@dataclass(frozen=True, slots=True)
class State:
    """`steps`: what is sent, and what must have come before the next step; empty: nothing is waited for."""

    name: str
    steps: tuple[tuple[bytes, bytes], ...]
    door: str = "plain"
    """Which listener: plain, proxy (a PROXY header first), tls."""
    pieces: int = 0
    """What is sent last comes in pieces of this size, each in a segment of its own."""
    cut: int = 0
    """So many bytes of what is sent last are not, as they are on the wire."""


def _h2(*said: bytes) -> tuple[tuple[bytes, bytes], ...]:
    return ((PREFACE + settings(), frame(SETTINGS, 0, 0)[3:4]), (b"".join(said), b""))


def _streams() -> bytes:
    """Three hundred streams: half are reset, half stay."""
    opened = [frame(HEADERS, END_HEADERS, number, LONG_PATH) for number in range(1, 601, 2)]
    resets = [frame(RST, 0, number, bytes(4)) for number in range(1, 301, 2)]
    return b"".join((*opened[:150], *resets, *opened[150:]))


STATES = (
    State("silent", ()),
    State("idle", ((GET, b"\r\n\r\nok"),)),
    State("PROXY header", ((b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\xe0" + b"x" * 4_000, b""),), "proxy"),
    State("large ClientHello", ((client_hello(64 * KIB, 120_000), b""),), "tls"),
    State("ClientHello", ((client_hello(16_000, 16_300), b""),), "tls"),
    State("silent in TLS", ((b"", b"shaken"),), "tls"),
    State("record", ((GET, b"\r\n\r\nok"), (b"GET / HTTP/1.1\r\nX: " + b"y" * 16_000, b"")), "tls", cut=1),
    State("handshake", ((b"", b"hello"),), "tls"),
    State("idle in TLS", ((GET, b"\r\n\r\nok"),), "tls"),
    State("head", ((request(63 * KIB)[:-2], b""),)),
    State("small head", ((request(4_000)[:-2], b""),)),
    State("head of tiny fields", ((b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 10_000, b""),)),
    State("head in TLS", ((request(63 * KIB)[:-2], b""),), "tls"),
    State("chunk line", ((CHUNKED + b"0" * 14, b""),)),
    State("chunk extension", ((CHUNKED + b"1;" + b"a" * 4_000, b""),)),
    State("trailer", ((CHUNKED + b"0\r\na: " + b"b" * 15_000, b""),)),
    State("trailers", ((CHUNKED + b"0\r\n" + b"a:\r\n" * 8_000, b""),)),
    State("body ahead", ((POST + bytes(250 * KIB), b""),)),
    State("pipelined", ((HELD + GET * 3_500, b""),)),
    State("held requests", ((request(60 * KIB), b""),)),
    State("small held requests", ((HELD, b""),)),
    State("lingering", ((request(63 * KIB)[:-2] + b"a b c\r\n", b""),)),
    State("tunnel", ((upgrade("/tunnel", "chat"), b"101 "), (bytes(250 * KIB), b""))),
    State("idle WebSocket", ((upgrade("/tunnel", "websocket"), b"101 "),)),
    State("unread answer", ((get("/large"), b""),)),
    State("HTTP/2 idle", _h2()),
    State("frame header", _h2(frame(HEADERS, END_HEADERS, 1, LONG_PATH)[:8])),
    State("half a frame", _h2(frame(HEADERS, END_HEADERS, 1, b"x" * 16_384)[:-1])),
    # So few that five thousand have sent theirs before the first head has taken too long.
    State("frame in pieces", _h2(frame(HEADERS, END_HEADERS, 1, b"x" * 400)[:-1]), pieces=16),
    State("header block", _h2(frame(HEADERS, 0, 1, b"x" * 16_384), *[frame(9, 0, 1, b"x" * 16_384)] * 2)),
    State("streams", _h2(_streams())),
)  # fmt: skip
BY_NAME = {state.name: state for state in STATES}


@dataclass
class Crowd:
    """Clients of one state. `outcomes`: held, 503 (or another status), reset, closed, unconnected."""

    state: State
    address: tuple[str, int]
    trust: ssl.SSLContext | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    _clients: list[_Stopped] = field(default_factory=list)

    async def come(self, count: int) -> None:
        """Have so many take their steps."""
        gate, loop = asyncio.Semaphore(AT_ONCE), asyncio.get_running_loop()
        began = loop.time()

        async def one(number: int) -> None:
            async with gate:
                await asyncio.sleep(began + number / A_SECOND - loop.time())
                client = _Stopped(self)
                self._clients.append(client)
                await client.walk()

        await asyncio.gather(*(one(number) for number in range(count)))

    def look(self) -> Counter[str]:
        """Return what has become of each by now."""
        return Counter(client.outcome() for client in self._clients)

    def leave(self) -> None:
        """Have everybody hang up."""
        for client in self._clients:
            client.close()
        self._clients.clear()


class _Stopped(asyncio.Protocol):
    """One client, as a protocol that never writes but its steps."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._transport: asyncio.Transport | None = None
        self._said = b""
        self._clear = b""
        self._ended = ""
        self._moved = asyncio.Event()
        self._session: Session | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._crowd.state.name == "handshake":
            return  # the server's flight is not answered
        if self._session is not None:
            try:
                data = self._session.decrypt(data)
            except Exception:
                data = b""
            if self._transport is not None:
                self._transport.write(self._session.to_send())
        self._said = (self._said + data)[:4096]
        self._moved.set()

    def eof_received(self) -> bool:
        self._ended = "closed"
        self._moved.set()
        return True  # it stays where it is

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = "reset" if exc is not None else self._ended or "closed"
        self._moved.set()

    async def walk(self) -> None:  # noqa: C901 - one step after the other
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(STEP_S):
                await loop.create_connection(lambda: self, *self._crowd.address)
        except (OSError, TimeoutError):
            self._ended = "unconnected"
            return
        state = self._crowd.state
        if state.name == "unread answer":
            cast("asyncio.Transport", self._transport).pause_reading()
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(STEP_S):
                if state.door == "tls" and not state.name.endswith("ClientHello"):
                    self._session = Session(cast("ssl.SSLContext", self._crowd.trust), name="localhost")
                    self._session.shake()
                    self._write(self._session.to_send())
                    if state.name == "handshake":
                        return
                    while not self._session.shaken and not self._ended:
                        await self._news()
                for data, expected in state.steps:
                    if state.pieces and data is state.steps[-1][0]:
                        for at in range(0, len(data), state.pieces):
                            self._write(data[at : at + state.pieces])
                            await asyncio.sleep(0.001)
                    elif data:
                        self._write(data, state.cut if data is state.steps[-1][0] else 0)
                    while expected != b"shaken" and expected not in self._said and not self._ended:
                        await self._news()

    def _write(self, data: bytes, cut: int = 0) -> None:
        if self._transport is not None and not self._transport.is_closing():
            if self._session is not None and self._session.shaken:
                data = self._session.encrypt(data)
            self._transport.write(data[: len(data) - cut])

    async def _news(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def outcome(self) -> str:
        status = self._said[9:12] if self._said.startswith(b"HTTP/1.1 ") else b""
        if status not in {b"", b"200", b"101"}:
            return status.decode()
        return self._ended or "held"

    def close(self) -> None:
        """Reset: a FIN would wait behind what is not read."""
        if self._transport is not None:
            if not self._transport.is_closing():
                wire = self._transport.get_extra_info("socket")
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
