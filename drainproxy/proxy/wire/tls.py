"""TLS between a plain transport and a protocol: each of the two takes it for the other.

The event loops' own TLS is not used (docs/decisions/0004-tls.md): here a connection exists from its accept
on and not only after its handshake, the plain socket's buffer is what counts as unsent, and a half-close and
a cut look as they do without TLS. Knows nothing of HTTP; made by preamble.py, by upstream/tls.py and by the
webhook.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, Protocol, cast

from drainproxy.proxy.wire import client_hello, sockets
from drainproxy.proxy.wire.run_queue import READ_BUDGET, RunQueue
from drainproxy.proxy.wire.weights import HANDSHAKE_BYTES, RECORD_BYTES, SESSION_BYTES

READ_BYTES: Final = 64 * 1024
"""More than a record holds: what is left after a read is the beginning of the next record. Decrypted at a
time, since records that carry no data (KeyUpdate) are read over without a word."""
PIECE_BYTES: Final = 16 * 1024
"""So much is encrypted at a time: OpenSSL's buffers keep the largest size that they had."""


class Account(Protocol):
    """Where it says how much it holds (buffers.py)."""

    own_bytes: int

    def hold(self, who: Hashable, size: int) -> None: ...
    def free(self, who: Hashable) -> None: ...


class Tls:
    """One connection's encryption: an asyncio.Protocol and an asyncio.Transport by what it does, and by no
    inheritance (decision 0023). Written by its plain transport and its protocol, on the loop's thread."""

    __slots__ = (
        "_account", "_began", "_context", "_ended", "_failure", "_header", "_held", "_in_record",
        "_keep_half", "_kept", "_later", "_left", "_outgoing", "_protocol", "_said_bye", "_seal", "_sealed",
        "_server_name", "_shaken", "_tls", "_widest", "_yielding", "abort", "get_write_buffer_size", "hello",
        "incoming", "is_closing", "plain", "set_write_buffer_limits",
    )  # fmt: skip
    plain: asyncio.Transport
    """The transport below."""
    incoming: ssl.MemoryBIO
    """Under this name it accounts for what it holds."""
    # What the plain transport does by itself: no clear text waits here, encrypted bytes are what is unsent,
    # and an abort sends no close_notify, so that the other side sees that something is missing.
    abort: Callable[[], None]
    get_write_buffer_size: Callable[[], int]
    is_closing: Callable[[], bool]
    set_write_buffer_limits: Callable[..., None]

    def __init__(
        self,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        ended: Callable[[Exception | None], None],
        *,
        began: Callable[[], None] | None = None,
        seal: Callable[[bool], None] | None = None,
        server_name: str | None = None,
        run_queue: RunQueue | None = None,
        account: Account | None = None,
    ) -> None:
        """`began` hears that the other side has begun the handshake; `ended`, once, that it is done (None) or
        why it never will be. `seal` is told whether something has come that could not be handed on to
        `protocol`, if there is an account. `run_queue`: where others have their turn; else in the loop's next
        one. `account`: how much is held here. Without a `server_name` it is a server."""
        self._protocol = protocol
        self._began, self._ended = began, ended
        self._seal, self._sealed = seal, False
        self._account = account
        self._context = context
        self.incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        """A server has none for a client that has not said hello: it would take 20 KiB."""
        self.hello = b""
        """What has come of a ClientHello that is not complete."""
        self._widest = 0
        """The most that was put into `incoming` at once, which keeps the room that it has made."""
        self._header = b""
        self._left = 0
        """Of a record that has begun: a header that is not complete, and how much of the rest is missing."""
        self._in_record = False
        """A record that is not complete has been accounted for."""
        self._server_name = server_name
        self._shaken = self._said_bye = False
        self._later = asyncio.get_running_loop().call_soon if run_queue is None else run_queue.add
        self._held = False
        """The protocol takes nothing at the moment."""
        self._kept = b""
        """Of what was read, beyond READ_BYTES."""
        self._yielding = False
        """Records are here that are beyond the budget of one read; the socket is not read from."""
        self._keep_half: bool | None = None
        """What the protocol said to the other side's end; None before it."""
        self._failure: Exception | None = None

    # What the plain transport tells (asyncio.Protocol).

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Present itself as the transport; a client says hello."""
        self.plain = plain = cast("asyncio.Transport", transport)
        self.abort, self.is_closing = plain.abort, plain.is_closing
        self.get_write_buffer_size = plain.get_write_buffer_size
        self.set_write_buffer_limits = plain.set_write_buffer_limits
        if self._server_name is not None:
            # Not before: what is never connected is never lost, and would be in the account for good.
            self._begin(self._server_name)
        self._protocol.connection_made(cast("asyncio.BaseTransport", self))
        if self._tls is not None:
            self._shake()

    def data_received(self, data: bytes) -> None:
        """Decrypt what has come, and hand it on in one piece."""
        if self._failure is not None:
            return
        if self._began is not None:
            began, self._began = self._began, None
            began()
        if self._kept or len(data) > READ_BYTES:
            data, self._kept = (self._kept + data)[:READ_BYTES], (self._kept + data)[READ_BYTES:]
        if self._tls is None and not (data := self._take_hello(data)):
            return
        self.incoming.write(data)
        if self._account is not None:
            self._follow(data, self._account)
        more = ended = False
        if self._shaken or self._shake():
            more, ended = self._pass_clear()
        if ended:
            self._pass_end()
        elif (more or self._kept) and self._failure is None:
            self._yield()
        sealed = self._yielding or self._left > 0 or self._header != b""
        if sealed is not self._sealed and self._shaken:
            self._tell_sealed(sealed=sealed)

    def _tell_sealed(self, *, sealed: bool) -> None:
        self._sealed = sealed
        if self._seal is not None and self._failure is None:
            self._seal(sealed)

    def _pass_clear(self) -> tuple[bool, bool]:
        """Hand on what is whole; return whether more is here, and whether there will be no more."""
        clear, more, ended = self._decrypt()
        if clear:
            self._protocol.data_received(clear)
        return more, ended

    def _pass_end(self) -> None:
        """Tell the protocol that there will be no more, behind what there was."""
        if self._keep_half is None and not self.is_closing():
            if getattr(self._protocol, "yielding", False):
                self._later(self._pass_end)
                return
            self._keep_half = bool(self._protocol.eof_received())
            if not self._keep_half:
                self.close()

    def eof_received(self) -> bool:
        """The other side has closed; after its close_notify nothing is missing (RFC 8446 section 6.1)."""
        if self._keep_half is not None or self._failure is not None:
            return bool(self._keep_half)
        if self._tls is None or not self._shaken or not self._tls.server_side:
            self._failure = ConnectionResetError("closed without a close_notify")
            return False
        # Requests say by themselves where they end, and few clients take the trouble.
        self._keep_half = bool(self._protocol.eof_received())
        return self._keep_half

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for the handshake, and the protocol."""
        if exc is not None and self._shaken and self._failure is None:
            self.incoming.write(self._kept + sockets.last_words(self.plain))
            while self._pass_clear()[0]:
                pass
        self._yielding, self._kept = False, b""
        self._end_handshake(self._failure or exc or ConnectionAbortedError("closed during the handshake"))
        self.leave_account()
        sockets.unwind(self.plain)
        # Circles are work for the collector, and a session is large.
        protocol, self._protocol, self._tls, self._began = self._protocol, _NOBODY, None, None
        self._seal = None
        self.incoming = self._outgoing = _NOTHING
        self.hello = b""
        protocol.connection_lost(self._failure or exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._protocol.resume_writing()

    # Yielding (run_queue.py).

    def _yield(self) -> None:
        """Go on with what is here once others have had their turn."""
        self._yielding = True
        self.plain.pause_reading()
        self._later(self._go_on)

    def _go_on(self) -> None:
        if not self._yielding or self._held or self.is_closing():
            return
        self._yielding = False
        self.data_received(b"")
        if not self._yielding and not self._held and not self.is_closing():
            self.plain.resume_reading()

    # The session.

    def leave_account(self) -> None:
        """It has ended, or was given up before anybody could say so."""
        account, self._account = self._account, None
        if account is not None:
            if self._tls is not None:
                account.own_bytes -= SESSION_BYTES + self._widest
            account.free(self.incoming)

    def _begin(self, server_name: str | None) -> None:
        self._tls = self._context.wrap_bio(
            self.incoming, self._outgoing, server_side=server_name is None, server_hostname=server_name
        )
        if self._account is not None:
            self._account.own_bytes += SESSION_BYTES

    def _take_hello(self, data: bytes) -> bytes:
        """Wait for the whole of a ClientHello; return it then, and begin."""
        if self.plain.is_closing():
            # There was no room for it.
            return b""
        self.hello += data
        try:
            whole = client_hello.is_whole(self.hello)
        except ValueError as fault:
            self._fail(ssl.SSLError(1, str(fault)))
            return b""
        if self._account is not None:
            self._account.hold(self.incoming, HANDSHAKE_BYTES if whole else len(self.hello))
        if not whole:
            return b""
        self._begin(None)
        data, self.hello = self.hello, b""
        return data

    def _follow(self, data: bytes, account: Account) -> None:
        """See where records end: OpenSSL keeps a buffer for one that is not complete."""
        at, size = self._left, len(data)
        while at < size:
            header = self._header + data[at : at + 5 - len(self._header)]
            at += len(header) - len(self._header)
            self._header = b"" if len(header) == 5 else header
            if len(header) == 5:
                at += int.from_bytes(header[3:])
        self._left = at - size
        if size > self._widest:
            account.own_bytes += size - self._widest
            self._widest = size
        inside = self._left > 0 or self._header != b""
        if inside is not self._in_record and self._shaken:
            self._in_record = inside
            account.hold(self.incoming, RECORD_BYTES if inside else 0)

    def _shake(self) -> bool:
        """Go on with the handshake; tell whether it is done."""
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as failure:
            self._fail(failure)
            return False
        self._flush()
        self._shaken = True
        if self._account is not None:
            self._account.hold(self.incoming, 0)
        self._end_handshake(None)
        return not self.is_closing()

    def _end_handshake(self, failure: Exception | None) -> None:
        ended, self._ended = self._ended, _ignore
        ended(failure)

    def _decrypt(self) -> tuple[bytes, bool, bool]:
        """Return what is whole, as far as the budget goes; whether there is more; and whether the other side
        has said that there will be no more."""
        assert self._tls is not None
        pieces: list[bytes] = []
        ended = False
        try:
            while self.incoming.pending and not ended and len(pieces) < READ_BUDGET:
                piece = self._tls.read(READ_BYTES)
                pieces.append(piece)
                ended = not piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as failure:
            self._fail(failure)
        self._flush()
        return b"".join(pieces), len(pieces) >= READ_BUDGET, ended

    def _fail(self, failure: Exception) -> None:
        """End the connection; an alert says why."""
        self._failure = failure.with_traceback(None)
        self.hello = b""
        self._flush()
        if self._shaken:
            self.plain.abort()
        else:
            self.plain.close()

    def _flush(self) -> None:
        if self._outgoing.pending and not self.plain.is_closing():
            self.plain.write(self._outgoing.read())

    def _say_bye(self) -> None:
        """Send close_notify; the other side's is not waited for."""
        if self._tls is not None and self._shaken and not self._said_bye and self._failure is None:
            self._said_bye = True
            with contextlib.suppress(ssl.SSLError):
                # WANT_READ: what it wants to read is the other side's.
                self._tls.unwrap()
            self._flush()

    # What the protocol asks for (asyncio.Transport).

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send. Nothing can be said before the handshake or after the end: it is dropped."""
        if self._tls is None or not self._shaken or self._said_bye or self._failure is not None:
            return
        rest = memoryview(data)
        sent: list[bytes] = []
        while rest:
            # On a line of its own: mypyc works out the bounds of a slice twice (tests/test_flavour.py).
            written = self._tls.write(rest[:PIECE_BYTES])
            rest = rest[written:]
            if rest:
                sent.append(self._outgoing.read())
        if sent and not self.plain.is_closing():
            self.plain.write(b"".join((*sent, self._outgoing.read())))
        else:
            self._flush()

    def writelines(self, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """See asyncio.Transport."""
        self.write(b"".join(pieces))

    def write_eof(self) -> None:
        """Stop sending, and go on reading: close_notify, then FIN."""
        self._say_bye()
        self.plain.write_eof()

    def close(self) -> None:
        """Send what is left, close_notify, and close."""
        self._say_bye()
        self.plain.close()

    def pause_reading(self) -> None:
        """See asyncio.Transport."""
        self._held = True
        self.plain.pause_reading()

    def resume_reading(self) -> None:
        """See asyncio.Transport. What is here already comes first, in its turn."""
        self._held = False
        if self._yielding:
            self._later(self._go_on)
        else:
            self.plain.resume_reading()

    def is_reading(self) -> bool:
        """See asyncio.Transport."""
        return not self._held and not self.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See asyncio.Transport."""
        self._protocol = cast("asyncio.Protocol", protocol)
        self._seal = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Answer for the session (`ssl_object`), and for the plain socket."""
        return self._tls if name == "ssl_object" else self.plain.get_extra_info(name, default)


_NOBODY: Final = asyncio.Protocol()
_NOTHING: Final = ssl.MemoryBIO()


def _ignore(_failure: Exception | None) -> None: ...
