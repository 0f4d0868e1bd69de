"""An application that fails as its caller asks it to: `/fault/stage`. A process of its own, to be killed.

Run as a script with a port, it serves there until it is killed; `Doomed` starts it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

from tests.integration.application import Application
from tests.integration.scene import until
from tests.support.upstream import OK
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.upstream import Connection

_SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STAGES = {
    "head": b"",
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf",
    "events": _SSE + b"b\r\ndata: one\n\n\r\n20\r\ndata: half",
    "tunnel": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nhalf",
}
"""What it has said when it fails."""


FAULTS: dict[str, Callable[[Connection], object]] = {
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "reset": lambda connection: connection.reset(),
    "fin": lambda connection: connection.close(),
    "half": lambda connection: connection.half_close(),
    "stall": lambda _: None,
}


async def fail(connection: Connection) -> None:
    """Answer what has no fault in its path; fail where it says."""
    while (request := await connection.read_request()).start:
        _, fault, stage, *_ = f"{request.start.split(b' ')[1].decode()}//".split("/")
        if fault not in FAULTS:
            await connection.send(OK)
            continue
        if STAGES[stage]:
            await connection.send(STAGES[stage])
            # What was said is on its way before the end is.
            await asyncio.sleep(0.05)
        FAULTS[fault](connection)
        if connection.wire.fileno() >= 0:
            await connection.read_until_close()


class Doomed:
    """`async with Doomed() as application:` runs it as a process; `again` waits for its end and starts it."""

    def __init__(self, ledger: Path | None = None) -> None:
        """`ledger`: where it writes the path of each POST."""
        self._ledger = ledger
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port: int = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Doomed:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.kill()
        await self._child.wait()

    async def again(self, away_s: float = 0.0) -> None:
        """Return when it has been killed and serves again, `away_s` after its end or as soon as it can."""
        async with asyncio.timeout(PATIENCE_S):
            assert await self._child.wait() == -signal.SIGKILL
        await self._start(away_s)

    async def _start(self, in_s: float = 0.0) -> None:
        words = [sys.executable, "-m", "tests.chaos.application", str(self._port), str(in_s)]
        words += [] if self._ledger is None else [str(self._ledger)]
        self._child = await asyncio.create_subprocess_exec(*words)
        await until(self._listens, "the application does not come up")

    def _listens(self) -> bool:
        with socket.socket() as wire:
            return wire.connect_ex(("127.0.0.1", self._port)) == 0


async def _serve(port: int, at: float, ledger: str | None) -> None:
    """`at`: not before this time of the process's clock, which begins with it."""
    await asyncio.sleep(at - time.monotonic())

    async def handle(connection: Connection) -> None:
        while (request := await connection.read_request()).start:
            if ledger is not None and request.start.startswith(b"POST"):
                with open(ledger, "ab") as file:  # noqa: PTH123, ASYNC230 - one write, appended whole
                    file.write(request.start.split(b" ")[1] + b"\n")
            await connection.send(OK)

    async with Application(fail if ledger is None else handle, port=port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    _BEGAN = time.monotonic() - time.process_time()
    _PORT, _IN_S, *_LEDGER = sys.argv[1:]
    asyncio.run(_serve(int(_PORT), _BEGAN + float(_IN_S), *(_LEDGER or [None])))
