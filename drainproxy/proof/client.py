"""Client: sends requests as a real HTTP client does, and hides nothing of what became of them.

It reuses a connection while both sides allow it, reconnects without a word when the idle
connection was closed before a request was sent, and repeats a request by itself only where
RFC 9110 section 9.2.2 lets it. aiohttp's client does more than that silently, so it is not used.
One Client is one caller: at most one connection, one request at a time.
"""

import asyncio
import errno
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from drainproxy.proof.answers import read_answer
from drainproxy.proof.outcomes import Kind, LossError, Outcome
from drainproxy.proof.waiting import happens_before
from drainproxy.proof.wire import Wire

Address = tuple[str, int]

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. `parts` make a chunked body, `pause_s` lies between two of them."""

    method: str
    path: str
    host: str
    fields: tuple[tuple[str, str], ...] = ()
    parts: tuple[bytes, ...] = ()
    pause_s: float = 0.0

    def head(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in self.fields]
        if self.parts:
            lines.append("Transfer-Encoding: chunked")
        elif self.method in {"POST", "PUT", "PATCH"}:
            lines.append("Content-Length: 0")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass(eq=False)
class Client:
    """One caller and its habits. Written only by the task that sends."""

    choose: Callable[[], Address]  # which pod a new connection goes to
    keep_alive: bool
    timeout_s: float
    tls: ssl.SSLContext | None = None
    _wire: Wire | None = field(default=None, init=False)
    _peer: Address = field(default=("", 0), init=False)

    async def send(self, request: Request) -> Outcome:
        """One request to its end; never raises for what the network does."""
        loop = asyncio.get_running_loop()
        sent_at = loop.time()
        status: int | None = None
        kind: Kind | None = None
        error = ""
        retries: list[str] = []
        try:
            async with asyncio.timeout(self.timeout_s):
                status = await self._answered(request, retries)
            if status >= 500:
                kind, error = Kind.SERVER_ERROR, f"status {status}"
        except LossError as loss:
            kind, error = loss.kind, loss.error
        except TimeoutError:
            kind, error = Kind.TIMEOUT, f"no complete answer in {self.timeout_s:g} s"
        finally:
            if kind is not None or not self.keep_alive:
                self._leave(in_order=kind is None)
        return Outcome(
            sent_at=sent_at,
            took_s=loop.time() - sent_at,
            status=status,
            kind=kind,
            error=error,
            retried=bool(retries),
            peer=f"{self._peer[0]}:{self._peer[1]}",
        )

    def close(self) -> None:
        self._leave(in_order=True)

    async def _answered(self, request: Request, retries: list[str]) -> int:
        reused = self._wire is not None and self._wire.quiet
        try:
            return await self._exchange(request)
        except LossError as loss:
            # Only a connection that worked before can have died of age; a fresh one died of this request.
            if loss.kind is not Kind.RESET or not reused or request.method not in _IDEMPOTENT:
                raise
            retries.append(loss.error)
        self._leave(in_order=False)
        return await self._exchange(request)

    async def _exchange(self, request: Request) -> int:
        """Return the status of the answer."""
        wire = await self._connected()
        whole = await _send_request(wire, request)
        answer = await read_answer(wire, method=request.method)
        if not (answer.reusable and whole):
            self._leave(in_order=True)
        return answer.status

    async def _connected(self) -> Wire:
        if self._wire is not None:
            if self._wire.quiet:
                return self._wire
            self._leave(in_order=True)  # closed between two requests: nothing was lost
        self._peer = self.choose()
        self._wire = await connect(self._peer, tls=self.tls)
        return self._wire

    def _leave(self, *, in_order: bool) -> None:
        if self._wire is not None:
            if in_order:
                self._wire.transport.close()
            else:
                self._wire.transport.abort()
        self._wire = None


async def _send_request(wire: Wire, request: Request) -> bool:
    """True when the whole request went out; an answer that comes early stops it."""
    write, now = wire.transport.write, asyncio.get_running_loop().time
    if not request.parts:
        write(request.head())
        return True
    wire.stirred.clear()
    head = request.head()
    for part in request.parts:
        write(b"%s%x\r\n%s\r\n" % (head, len(part), part))
        head = b""
        if request.pause_s and await happens_before(wire.stirred, now() + request.pause_s):
            return False
    write(b"0\r\n\r\n")
    return True


async def connect(address: Address, *, tls: ssl.SSLContext | None = None) -> Wire:
    """A connection to the first address of the name that takes one; raises LossError."""
    host, port = address
    wire = Wire()
    protocol = asyncio.StreamReaderProtocol(wire)
    try:
        await asyncio.get_running_loop().create_connection(lambda: protocol, host, port, ssl=tls)
    except OSError as error:
        raise _not_connected(error) from None
    except ValueError:  # from the resolver's own encoding of the name
        raise LossError(Kind.UNREACHABLE, "not a name that can be looked up") from None
    return wire


def _not_connected(error: OSError) -> LossError:
    """One kind for all the addresses tried, which asyncio tells of in words: a refusal says most."""
    if f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return LossError(Kind.REFUSED, "connection refused")
    if isinstance(error, ConnectionResetError):
        return LossError(Kind.RESET, "reset while connecting")
    if error.errno == errno.ETIMEDOUT:
        return LossError(Kind.TIMEOUT, "no answer to the connection attempt")
    return LossError(Kind.UNREACHABLE, error.strerror or str(error))
