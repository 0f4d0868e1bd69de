"""Peers that say next to nothing again and again, as fast as they are read."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import hpack

from drainproxy import certificates
from drainproxy.certificates import Files
from tests.support import http2
from tests.support.session import Session
from tests.support.words import OK, asks, get, switching, upgrade

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator
    from pathlib import Path

BLOCK_BYTES = 256 * 1024
PROBE = get("/probe")
CHUNKED = asks("POST", "/", "Transfer-Encoding: chunked")
LONG = asks("POST", "/", "Content-Length: 999999999999")
ASK = get("/hog")
UPGRADE = upgrade("/", "websocket")
SWITCHING = switching("websocket")
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_ONE = b"\0\0\0\1"
_HEADERS = hpack.Encoder().encode(
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
)
CALL = http2.PREFACE + http2.settings() + http2.frame(http2.HEADERS, http2.END_HEADERS, 1, _HEADERS)
CALLED = http2.settings() + http2.frame(
    http2.HEADERS, http2.END_HEADERS, 1, hpack.Encoder().encode([(":status", "200")])
)
TRAILERS = CHUNKED + b"0\r\n" + b"a:\r\n" * 2000 + b"\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hog:
    """One kind. `item` is said for ever: by the client behind `opening`, or by the application behind
    `answer`."""

    name: str
    item: bytes
    opening: bytes = b""
    answer: bytes = b""
    by_application: bool = False
    tls: bool = False

    @property
    def block(self) -> bytes:
        """Return many items, to be said in one write."""
        return self.item * (BLOCK_BYTES // len(self.item) + 1)


HOGS = (
    Hog(name="frames of a WebSocket client", opening=UPGRADE, answer=SWITCHING, item=b"\x82\x80mask"),
    Hog(name="frames of a WebSocket server", opening=UPGRADE, answer=SWITCHING, item=b"\x82\x00",
        by_application=True),
    Hog(name="chunks of a byte", opening=CHUNKED, item=b"1\r\na\r\n"),
    Hog(name="chunk extensions", opening=CHUNKED, item=b"1" + b";a" * 2000 + b"\r\na\r\n"),
    Hog(name="chunks with an extension", opening=CHUNKED, item=b"1;a\r\na\r\n"),
    Hog(name="chunks of an answer", opening=ASK, answer=CHUNKS, item=b"1\r\na\r\n", by_application=True),
    Hog(name="events", opening=ASK, answer=EVENTS, item=b"2\r\n\n\n\r\n",
        by_application=True),
    Hog(name="trailers", item=TRAILERS),
    Hog(name="pipelined requests", item=PROBE),
    Hog(name="HTTP/2 data of a byte", opening=CALL, answer=CALLED, item=http2.frame(http2.DATA, 0, 1, b"a")),
    Hog(name="HTTP/2 windows", opening=CALL, answer=CALLED, item=http2.frame(http2.WINDOW, 0, 1, _ONE)),
    Hog(name="HTTP/2 pings", opening=CALL, answer=CALLED, item=http2.frame(http2.PING, 0, 0, b"12345678")),
    Hog(name="HTTP/2 data of an answer", opening=CALL, answer=CALLED, by_application=True,
        item=http2.frame(http2.DATA, 0, 1, b"a")),
    Hog(name="TLS records of a byte", opening=LONG, item=b"a", tls=True),
    Hog(name="a body at full speed", opening=LONG, item=bytes(1024)),
)  # fmt: skip


class Speaker(asyncio.Protocol):
    """Says a block again whenever there is room for it, once it is told to; what comes is counted."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.block = b""
        self.said = self.heard = 0
        self._room = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say nothing more."""
        self.transport, self.block = None, b""

    def pause_writing(self) -> None:
        """Wait for room."""
        self._room = False

    def resume_writing(self) -> None:
        """Go on."""
        self._room = True
        self.speak(self.block)

    def speak(self, block: bytes) -> None:
        """Say `block` for ever."""
        self.block = block
        if self._room and block and self.transport is not None and not self.transport.is_closing():
            self.said += len(block)
            self.transport.write(block)
            asyncio.get_running_loop().call_soon(self._again)

    def _again(self) -> None:
        if self.block:
            self.speak(self.block)


class Application(Speaker):
    """Answers a probe, and a hog as it wants; swallows everything else."""

    def __init__(self, hog: Hog) -> None:
        super().__init__()
        self._hog = hog
        self._begun = False
        self._post = b""

    def data_received(self, data: bytes) -> None:
        """Answer what begins a connection."""
        assert self.transport is not None
        self.heard += len(data)
        if data.startswith(b"GET /probe") and not self._begun:
            self.transport.write(OK * data.count(b"\r\n\r\n"))
        elif not self._hog.opening:
            self._post += data
            if self._post.partition(b"\r\n\r\n")[2].endswith(b"\r\n\r\n"):
                self._post = b""
                self.transport.write(OK)
        elif not self._begun:
            self._begun = True
            if self._hog.answer:
                self.transport.write(self._hog.answer)
            if self._hog.by_application:
                self.speak(self._hog.block)


class Client(Speaker):
    """A hog's client."""

    def __init__(self, hog: Hog) -> None:
        super().__init__()
        self._hog = hog

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what comes first, and go on where nobody has to agree."""
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.write(self._hog.opening)
        if not self._hog.by_application and self._hog.opening != UPGRADE:
            self.speak(self._hog.block)

    def data_received(self, data: bytes) -> None:
        """Go on once the application has agreed."""
        if not self.heard and not self._hog.by_application and not self.block:
            self.speak(self._hog.block)
        self.heard += len(data)


@contextlib.asynccontextmanager
async def application(hog: Hog) -> AsyncIterator[str]:
    """Run the application of a hog; yield its address."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Application(hog), "127.0.0.1", 0, backlog=256)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


class Crowd:
    """`async with Crowd(hog, address, 4, authority.file) as crowd:` runs four clients of a hog, in a process.

    Whoever is hung up on comes again. Afterwards `moved` tells how many bytes they have sent and read."""

    def __init__(self, hog: Hog, address: tuple[str, int], count: int, authority: Path) -> None:
        self._words = (hog.name, *map(str, address), str(count), str(authority))
        self.moved = 0

    async def __aenter__(self) -> Crowd:
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.hogs", *self._words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._child.stdout is not None
        assert await self._child.stdout.readline() == b"begun\n"
        return self

    async def __aexit__(self, *_: object) -> None:
        out, _ = await self._child.communicate(b"")
        self.moved = int(out)


async def _crowd(hog: Hog, address: tuple[str, int], count: int, tls: ssl.SSLContext) -> None:
    """Run clients until stdin is closed."""
    moved = [0]
    tasks = [asyncio.ensure_future(_client(hog, address, moved, tls)) for _ in range(count)]
    print("begun", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(moved[0])


async def _client(hog: Hog, address: tuple[str, int], moved: list[int], tls: ssl.SSLContext) -> None:
    while True:
        with contextlib.suppress(OSError):
            await (_encrypted(hog, address, moved, tls) if hog.tls else _plain(hog, address, moved))
        await asyncio.sleep(0.05)


async def _plain(hog: Hog, address: tuple[str, int], moved: list[int]) -> None:
    _, client = await asyncio.get_running_loop().create_connection(lambda: Client(hog), *address)
    counted = 0
    while client.transport is not None:
        await asyncio.sleep(0.05)
        moved[0] += client.said + client.heard - counted
        counted = client.said + client.heard


async def _encrypted(hog: Hog, address: tuple[str, int], moved: list[int], tls: ssl.SSLContext) -> None:
    reader, writer = await asyncio.open_connection(*address)
    session = Session(tls, name="localhost")
    session.shake()
    while not session.shaken:
        writer.write(session.to_send())
        session.decrypt(await reader.read(BLOCK_BYTES))
    writer.write(session.to_send() + session.encrypt(hog.opening))
    while True:
        for _ in range(2000):
            session.tls.write(hog.item)
        records = session.to_send()
        moved[0] += len(records)
        writer.write(records)
        await writer.drain()
        await asyncio.sleep(0)


if __name__ == "__main__":
    _name, _host, _port, _count, _authority = sys.argv[1:]
    (_hog,) = (each for each in HOGS if each.name == _name)
    _trust = certificates.for_upstream(Files(authorities=_authority))
    asyncio.run(_crowd(_hog, (_host, int(_port)), int(_count), _trust))
