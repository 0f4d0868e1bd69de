"""TLS between a plain transport and a protocol: each of the two takes it for the other.

The event loops' own TLS is not used (docs/decisions/0004-tls.md): here a connection exists from its accept
on and not only after its handshake, the plain socket's buffer is what counts as unsent, and a half-close and
a cut look as they do without TLS. Knows nothing of HTTP; made by entrance.py, upstream.py and the webhook.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, cast

from drainproxy.proxy import kernel
from drainproxy.proxy.run_queue import READ_BUDGET, RunQueue

READ_BYTES = 64 * 1024
"""More than a record holds: what is left after a read is the beginning of the next record. Decrypted at a
time, since records that carry no data (KeyUpdate) are read over without a word."""


_OF_THE_SOCKET = ("abort", "get_write_buffer_size", "is_closing", "set_write_buffer_limits")
"""What the plain transport does by itself: no clear text waits here, encrypted bytes are what is unsent, and
an abort sends no close_notify, so that the other side sees that something is missing."""


class Tls(asyncio.Protocol, asyncio.Transport):
    """One connection's encryption. Written by its plain transport and its protocol, on the loop's thread."""

    __slots__ = (
        "_began", "_ended", "_failure", "_held", "_incoming", "_keep_half", "_kept", "_later", "_outgoing",
        "_protocol", "_said_bye", "_shaken", "_tls", "_yielding", "plain", *_OF_THE_SOCKET,
    )  # fmt: skip
    plain: asyncio.Transport
    """The transport below."""

    def __init__(
        self,
        protocol: asyncio.Protocol,
        context: ssl.SSLContext,
        ended: Callable[[Exception | None], None],
        *,
        began: Callable[[], None] | None = None,
        server_name: str | None = None,
        server_side: bool = False,
        run_queue: RunQueue | None = None,
    ) -> None:
        """`began` hears that the other side has begun the handshake; `ended`, once, that it is done (None) or
        why it never will be. `run_queue`: where others have their turn; else in the loop's next one."""
        self._protocol = protocol
        self._began = began
        self._ended = ended
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        self._shaken = False
        self._said_bye = False
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
        self.plain = cast("asyncio.Transport", transport)
        for name in _OF_THE_SOCKET:
            setattr(self, name, getattr(transport, name))
        self._protocol.connection_made(self)
        if not self._tls.server_side:
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
        self._incoming.write(data)
        more = ended = False
        if self._shaken or self._shake():
            more, ended = self._pass_clear()
        if ended:
            self._pass_end()
        elif (more or self._kept) and self._failure is None:
            self._yield()

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
        if not self._shaken or not self._tls.server_side:
            self._failure = ConnectionResetError("closed without a close_notify")
            return False
        # Requests say by themselves where they end, and few clients take the trouble.
        self._keep_half = bool(self._protocol.eof_received())
        return self._keep_half

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits for the handshake, and the protocol."""
        if exc is not None and self._shaken and self._failure is None:
            self._incoming.write(self._kept + kernel.last_words(self.plain))
            while self._pass_clear()[0]:
                pass
        self._yielding, self._kept = False, b""
        self._end_handshake(self._failure or exc or ConnectionAbortedError("closed during the handshake"))
        protocol, self._protocol = self._protocol, _NOBODY  # a circle is work for the collector
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

    def _shake(self) -> bool:
        """Go on with the handshake; tell whether it is done."""
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
        self._end_handshake(None)
        return not self.is_closing()

    def _end_handshake(self, failure: Exception | None) -> None:
        ended, self._ended = self._ended, _ignore
        ended(failure)

    def _decrypt(self) -> tuple[bytes, bool, bool]:
        """Return what is whole, as far as the budget goes; whether there is more; and whether the other side
        has said that there will be no more."""
        pieces: list[bytes] = []
        ended = False
        try:
            while self._incoming.pending and not ended and len(pieces) < READ_BUDGET:
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
        self._failure = failure
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
        if self._shaken and not self._said_bye and self._failure is None:
            self._said_bye = True
            with contextlib.suppress(ssl.SSLError):
                # WANT_READ: what it wants to read is the other side's.
                self._tls.unwrap()
            self._flush()

    # What the protocol asks for (asyncio.Transport).

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send. Nothing can be said before the handshake or after the end: it is dropped."""
        if not self._shaken or self._said_bye or self._failure is not None:
            return
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
        self._flush()

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

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Answer for the session (`ssl_object`), and for the plain socket."""
        return self._tls if name == "ssl_object" else self.plain.get_extra_info(name, default)


_NOBODY = asyncio.Protocol()


def _ignore(_failure: Exception | None) -> None: ...
