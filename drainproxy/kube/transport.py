"""Requests to one API server over connections that are kept while a session lasts. The framing is h11's.

Each wait for a connection has its time here, the rest of a request's time is the caller's, as is everything
that an answer means. What goes wrong leaves as what it is: OSError and TimeoutError before an answer,
Malformed or h11's error in it. Called by client.py.
"""

import asyncio
import errno
import os
import socket
import zlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

import h11

from drainproxy.kube.access import Access
from drainproxy.kube.listing import Malformed

CONNECT_TIMEOUT_S = 1.0
"""A NetworkPolicy that denies egress drops packets: a connect hangs rather than being refused."""

MAX_PIECE_BYTES = 64 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
"""Of a watch: an object may have as much as the cluster's store takes, 1.5 MiB, written twice as long."""

MAX_IDLE = 4
"""Connections that a session keeps: it asks a few questions at once."""

_CONTENT = {"PATCH": "application/merge-patch+json"}
"""What a method's body is, if not plain JSON (Kubernetes: API concepts, patch)."""

_GZIP = 31
"""zlib's name for gzip, header and checksum included."""


class _Connection:
    """One connection, with what h11 knows of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer
        self.said = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_PIECE_BYTES)

    def send(self, *events: h11.Event) -> None:
        """Write a request."""
        self._writer.write(b"".join(self.said.send(event) or b"" for event in events))

    @property
    def whole(self) -> bool:
        """Whether the last answer is, so that another request may follow."""
        return self.said.our_state is h11.DONE and self.said.their_state is h11.DONE

    @property
    def alive(self) -> bool:
        """Whether the other end is there, as far as the loop has heard."""
        return not self.reader.at_eof() and not self._writer.transport.is_closing()

    def close(self) -> None:
        """End it at once: what the other side says from now on concerns nobody."""
        self._writer.transport.abort()


class Answer:
    """A response of which the head has come. `async with` gives its connection back at the end."""

    def __init__(self, session: "Session", connection: _Connection) -> None:
        self._session = session
        self._connection = connection
        self._head: h11.Response | None = None

    async def __aenter__(self) -> "Answer":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Keep the connection if another request may follow on it."""
        self._session.give_back(self._connection)

    @property
    def status(self) -> int:
        """The status code."""
        assert self._head is not None
        return self._head.status_code

    def field(self, name: bytes) -> str:
        """Return the value of a field, given in lower case; empty where there is none."""
        assert self._head is not None
        return next((value.decode("latin-1") for each, value in self._head.headers if each == name), "")

    async def head(self) -> None:
        """Wait for the head."""
        while self._head is None:
            event = await self._next()
            if isinstance(event, h11.Response):
                self._head = event

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces of MAX_PIECE_BYTES at most, decompressed."""
        coding = self.field(b"content-encoding").strip().lower()
        if coding not in {"", "identity", "gzip"}:
            raise Malformed(f"it is coded as {coding[:20]!r}")
        inflate = zlib.decompressobj(_GZIP) if coding == "gzip" else None
        while isinstance(event := await self._next(), h11.Data):
            data = bytes(event.data)
            if inflate is None:
                yield data
                continue
            while data:
                if piece := inflate.decompress(data, MAX_PIECE_BYTES):
                    yield piece
                data = inflate.unconsumed_tail
        if inflate is not None:
            if rest := inflate.flush():
                yield rest
            if not inflate.eof:
                raise Malformed("its compression breaks off")

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the body line by line."""
        begun = bytearray()
        async for piece in self.pieces():
            first, *others = piece.split(b"\n")
            begun += first
            for line in others:
                yield bytes(begun)
                begun = bytearray(line)
            if len(begun) > MAX_LINE_BYTES:
                raise Malformed("a line of it is too long")
        if begun:
            yield bytes(begun)

    async def _next(self) -> h11.Event:
        connection = self._connection
        while True:
            event = connection.said.next_event()
            if isinstance(event, h11.Event):
                return event
            # It never is PAUSED before the end, behind which nobody asks.
            try:
                data = await connection.reader.read(MAX_PIECE_BYTES)
            except OSError as error:
                if self._head is None:
                    raise
                raise Malformed(f"it broke off: {error}") from None
            if not data and self._head is None:
                raise ConnectionResetError("closed before an answer")
            connection.said.receive_data(data)


class Session:
    """Connections to one API server. `close` ends them."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []

    async def request(
        self, method: str, target: str, fields: dict[str, str], body: bytes | None = None
    ) -> Answer:
        """Send a request; return its answer once the head has come."""
        access = self._access
        if body is not None:
            kind = _CONTENT.get(method, "application/json")
            fields = {**fields, "Content-Type": kind, "Content-Length": str(len(body))}
        fields = {"Host": access.authority, "Accept-Encoding": "gzip", **fields}
        connection = await self._connection()
        answer = Answer(self, connection)
        try:
            connection.send(
                h11.Request(method=method, target=access.prefix + target, headers=list(fields.items())),
                h11.Data(data=body or b""),
                h11.EndOfMessage(),
            )
            await answer.head()
        except BaseException:
            answer.release()
            raise
        return answer

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection for the next request, or end it."""
        if connection.whole and connection.alive and len(self._idle) < MAX_IDLE:
            connection.said.start_next_cycle()
            self._idle.append(connection)
        else:
            connection.close()
            self._open.discard(connection)

    def close(self) -> None:
        """End every connection."""
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._idle.clear()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
            self.give_back(connection)
        async with asyncio.timeout(2 * CONNECT_TIMEOUT_S):
            connection = await self._connect()
        self._open.add(connection)
        return connection

    async def _connect(self) -> _Connection:
        access = self._access
        wire = await (_dial(access.host, access.port) if access.proxy is None else _dial_through(access))
        try:
            reader, writer = await asyncio.open_connection(sock=wire, limit=MAX_PIECE_BYTES)
        except BaseException:
            wire.close()
            raise
        if access.tls is not None:
            try:
                # As a second step: asyncio forgets a transport that is closed before its handshake begins.
                await writer.start_tls(access.tls, server_hostname=access.server_name)
            except BaseException:
                writer.transport.abort()
                raise
        return _Connection(reader, writer)


async def _dial(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to one of a host's addresses. Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    try:
        # A pod is given an address: no thread has to look it up.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = ConnectionError("it has no address")
    for family, kind, protocol, _, address in found:
        wire = socket.socket(family, kind, protocol)
        wire.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await _connected(wire, address)
        except OSError as error:  # a TimeoutError is one
            wire.close()
            failure = error
        except BaseException:
            wire.close()
            raise
        else:
            return wire
    raise failure


async def _connected(wire: socket.socket, address: tuple[Any, ...]) -> None:
    """Connect. uvloop's sock_connect would look the address up, in four threads that then stay."""
    if (error := wire.connect_ex(address)) == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        decided = asyncio.Event()
        loop.add_writer(wire, decided.set)
        try:
            await decided.wait()
        finally:
            loop.remove_writer(wire)
        error = wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error:
        raise OSError(error, os.strerror(error))


async def _dial_through(access: Access) -> socket.socket:
    """Return a socket behind which a proxy has connected to the server (RFC 9110 section 9.3.6)."""
    proxy = access.proxy
    assert proxy is not None
    name = f"[{access.host}]" if ":" in access.host else access.host
    target = f"{name}:{access.port}"
    fields = [("Host", target)]
    if proxy.authorization is not None:
        fields.append(("Proxy-Authorization", proxy.authorization))
    loop, said = asyncio.get_running_loop(), h11.Connection(h11.CLIENT)
    wire = await _dial(proxy.host, proxy.port)
    try:
        await loop.sock_sendall(
            wire, said.send(h11.Request(method="CONNECT", target=target, headers=fields)) or b""
        )
        said.send(h11.EndOfMessage())
        while not isinstance(event := said.next_event(), h11.Response):
            if event is h11.NEED_DATA:
                said.receive_data(await loop.sock_recv(wire, MAX_PIECE_BYTES))
        if not 200 <= event.status_code <= 299:
            raise ConnectionRefusedError(f"the proxy before it answers {event.status_code}")
    except h11.RemoteProtocolError as error:
        wire.close()
        raise ConnectionError(f"the proxy before it makes no sense: {error}") from None
    except BaseException:
        wire.close()
        raise
    return wire
