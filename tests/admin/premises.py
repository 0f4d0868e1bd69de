"""An admin server on real sockets over a real lifecycle, a raw client for it, and work to be in flight."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drainproxy.admin.recent import Recent
from drainproxy.admin.server import AdminServer
from drainproxy.admin.settings import AdminSettings
from drainproxy.lifecycle.controller import Controller
from drainproxy.lifecycle.inflight import InFlight
from drainproxy.lifecycle.propagation import Rules
from drainproxy.lifecycle.report import Cause
from drainproxy.lifecycle.settings import LifecycleSettings
from drainproxy.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 20.0
"""What a test waits for something that should be there at once: a hang fails, a slow machine does not."""

FOREVER = Rules(min_s=3600, margin_s=3600, quiet_s=0, max_s=3600, hold_min=True)
"""Propagation that only a test ends."""


class Diary:
    """A Log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def event(self, event: str, /, level: str = "info", **fields: Any) -> None:
        """Write one line."""
        self.lines.append({"event": event, "level": level, **fields})

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of one event."""
        return [line for line in self.lines if line["event"] == event]


class AttendedController(Controller):
    """The controller, with a bell at the door of `released`."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.came = asyncio.Semaphore(0)
        self.left = asyncio.Semaphore(0)

    async def released(self) -> str:
        """Wait as a hook, and ring on both ways through."""
        self.came.release()
        try:
            return await super().released()
        finally:
            self.left.release()


class Job:
    """A Work that lasts as long as its hold."""

    def __init__(self, kind: str = "http", **what: str) -> None:
        self.kind = kind
        self.started = asyncio.get_running_loop().time()
        self.deadline = math.inf
        self.what = what

    def drain_by(self, deadline: float) -> None:
        """Take the drain's deadline: it has none of its own."""
        self.deadline = deadline

    def leave(self) -> None:
        """Requests just finish."""

    def cut(self, reason: str) -> None:
        """Ends with its hold all the same."""

    def describe(self) -> dict[str, str]:
        """Say what it is."""
        return self.what


@dataclass(frozen=True)
class Answer:
    """One response, as it came."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Call:
    """One connection with one request on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def answer(self) -> Answer:
        """Read until the server closes; return the response."""
        async with asyncio.timeout(PATIENCE_S):
            raw = await self._reader.read()
        await self.hang_up()
        return parse(raw)

    async def closed_without_answer(self) -> bool:
        """Read until the server closes; tell whether it said nothing."""
        said = b""
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(PATIENCE_S):
                said = await self._reader.read()
        await self.hang_up()
        return said == b""

    async def still_answers(self) -> bool:
        """Ask on the same connection; tell whether it is alive."""
        self._writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            return (await self._reader.readuntil(b"alive\n")).startswith(b"HTTP/1.1 200 ")

    async def hang_up(self) -> None:
        """Close this end."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


class Premises:
    """Everything an admin server stands on."""

    def __init__(
        self,
        directory: Path,
        *,
        rules: Rules = FOREVER,
        host: str = "127.0.0.1",
        final_scrape_wait: float = 15.0,
        node: frozenset[str] = frozenset(),
        **settings: Any,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.diary = Diary()
        self.metrics = Metrics()
        self.inflight = InFlight()
        self.controller = AttendedController(
            settings=LifecycleSettings(**{"grace_period": 7200.0, **settings}),
            rules=rules,
            inflight=self.inflight,
            metrics=self.metrics,
            log=self.diary,
            loop=loop,
        )
        self.control_path = directory / "run" / "control.sock"
        self.listeners = ["127.0.0.1:8080"]
        self.wire = socket.create_server((host, 0))
        self.port: int = self.wire.getsockname()[1]
        self.admin = AdminServer(
            controller=self.controller,
            inflight=self.inflight,
            metrics=self.metrics,
            log=self.diary,
            settings=AdminSettings(
                control_socket=str(self.control_path), final_scrape_wait=final_scrape_wait
            ),
            node=node,
            about=lambda: {"version": "1.2.3", "listeners": self.listeners},
            recent=Recent(self.controller, self.metrics, []),
        )

    async def open(self, *, up: bool = True) -> None:
        """Listen; `up`: the application answers."""
        await self.admin.start(self.wire)
        if up:
            self.controller.upstream_answers()

    async def close(self) -> None:
        """Stop."""
        await self.admin.stop()

    async def __aenter__(self) -> Premises:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # Asking.

    async def call(
        self,
        line: str,
        *,
        control: bool = False,
        host: str = "127.0.0.1",
        head: str = "Host: localhost",
        own: str = "",
    ) -> Call:
        """Connect, from `own` if given; send one request that asks for the connection to be closed."""
        if control:
            reader, writer = await asyncio.open_unix_connection(str(self.control_path))
        else:
            reader, writer = await asyncio.open_connection(
                host, self.port, local_addr=(own, 0) if own else None
            )
        writer.write(f"{line} HTTP/1.1\r\n{head}\r\nConnection: close\r\n\r\n".encode())
        return Call(reader, writer)

    async def ask(self, line: str, **how: Any) -> Answer:
        """Send one request and return its answer."""
        return await (await self.call(line, **how)).answer()

    async def hook(self, **how: Any) -> Call:
        """Send `GET /drain/wait`; return once it waits."""
        call = await self.call("GET /drain/wait", **how)
        async with asyncio.timeout(PATIENCE_S):
            await self.controller.came.acquire()
        return call

    # What happens to the lifecycle.

    def sigterm(self) -> None:
        """The kubelet's signal."""
        self.controller.terminate(Cause.UNKNOWN, sigterm=True)

    def finish(self) -> None:
        """End the drain now."""
        self.controller.abandon("the test says so")


def parse(raw: bytes) -> Answer:
    """Take a response apart."""
    head, blank, body = raw.partition(b"\r\n\r\n")
    assert blank, f"no whole head: {raw!r}"
    first, *lines = head.decode("ascii").split("\r\n")
    fields = {name.strip().lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
    return Answer(int(first.split(" ", 2)[1]), fields, body)


async def soon(reached: Any) -> None:
    """Let the loop run until `reached()`; fail after PATIENCE_S."""
    async with asyncio.timeout(PATIENCE_S):
        while not reached():
            await asyncio.sleep(0)
