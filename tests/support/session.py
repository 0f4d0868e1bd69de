"""TLS for a test's end of a socket: nothing is hidden, also not how the other side ended."""

from __future__ import annotations

import contextlib
import ssl


class Session:
    """One side. The wire carries the bytes (wire.py)."""

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool = False, name: str | None = None
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=name
        )
        self.shaken = False
        self.bye = False
        """The other side has said that there will be no more (close_notify)."""

    def shake(self) -> bool:
        """Go on with the handshake; tell whether it is done. Raises ssl.SSLError where it fails."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.shaken = True
        return True

    def decrypt(self, data: bytes) -> bytes:
        """Take bytes of the wire; return what is whole of what they say."""
        self._incoming.write(data)
        clear = b""
        if not self.shaken and not self.shake():
            return clear
        with contextlib.suppress(ssl.SSLWantReadError):
            while not self.bye:
                try:
                    piece = self.tls.read(65536)
                except ssl.SSLZeroReturnError:
                    piece = b""
                clear += piece
                self.bye = not piece
        return clear

    def encrypt(self, data: bytes) -> bytes:
        """Return what says `data` on the wire."""
        while data:
            data = data[self.tls.write(data) :]
        return self.to_send()

    def say_bye(self) -> bytes:
        """Return a close_notify."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.to_send()

    def to_send(self) -> bytes:
        """Return what the session itself has to say: handshake, alerts."""
        return self._outgoing.read()
