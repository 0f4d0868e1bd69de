"""An application whose workers each serve one connection to its end, then accept the next one.

As Apache prefork, Starman and many thread pools do: real threads that block. While all of them are taken, the
kernel keeps whoever else connects in its queue.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from tests.support.wire import PATIENCE_S
from tests.support.words import OK

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


class Prefork:
    """`with Prefork(workers=1) as upstream:`. A request for /held is answered once `release` is set."""

    def __init__(
        self, workers: int = 1, *, path: Path | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self._path = path
        if path is None:
            self._wire = socket.create_server(("127.0.0.1", 0))
        else:
            self._wire = socket.socket(socket.AF_UNIX)
            self._wire.bind(str(path))
            self._wire.listen(100)
        self.release = threading.Event()
        self.entered = threading.Semaphore(0)
        """Counts requests for /held that are in a worker."""
        self.accepted = 0
        self._serving: set[socket.socket] = set()
        self._over = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]

    @property
    def address(self) -> str:
        """What to write into the setting `upstream`."""
        if self._path is not None:
            return f"unix:{self._path}"
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._wire.getsockname()[1]

    def _work(self) -> None:
        while not self._over:
            with contextlib.suppress(OSError):
                wire, _ = self._wire.accept()
                self.accepted += 1
                self._serving.add(wire)
                try:
                    with (
                        wire if self._tls is None else self._tls.wrap_socket(wire, server_side=True) as spoken
                    ):
                        self._serve(spoken)
                finally:
                    self._serving.discard(wire)

    def _serve(self, wire: socket.socket) -> None:
        received = b""
        while piece := wire.recv(65536):
            received += piece
            while (end := received.find(b"\r\n\r\n")) >= 0:
                head, received = received[:end], received[end + 4 :]
                if b" /held " in head:
                    self.entered.release()
                    assert self.release.wait(PATIENCE_S)
                wire.sendall(OK)

    def __enter__(self) -> Prefork:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self.release.set()
        for wire in (self._wire, *self._serving):
            # Closing alone wakes nobody who waits in another thread.
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self._wire.close()
