"""A real drainproxy process: started, listened to, signalled, and ended by its pid."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.client import Client
from tests.support.command import INSTALLED, environment
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.message import Message


async def get_admin(address: tuple[str, int], path: str) -> Message:
    """GET from an admin listener."""
    async with await Client.connect(address) as client:
        return await client.ask(f"GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())


async def metrics(address: tuple[str, int]) -> dict[str, float]:
    """Return every series of /metrics by its name with labels, `drainproxy_` left out."""
    text = (await get_admin(address, "/metrics")).body.decode()
    series = [line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#"]
    return {name.removeprefix("drainproxy_"): float(value) for name, value in series}


class Proxy:
    """`async with Proxy(upstreams=[upstream.address]) as proxy:` runs until the block's end.

    Ports are free ones; settings go in as keywords (`head_timeout="1s"`). The application is not waited for:
    `await proxy.ready()` does.
    """

    def __init__(
        self,
        *,
        upstreams: Sequence[str],
        loop: str = "uvloop",
        env: dict[str, str] | None = None,
        descriptors: int | None = None,
        cgroup: Path | None = None,
        network: int | None = None,
        listen: str | Sequence[str] = "127.0.0.1:0",
        bare: bool = False,
        **settings: str,
    ) -> None:
        """`listen`: one for all upstreams, or one each. `descriptors`: how many the process may have open.
        `cgroup`: the directory of the group it is in.
        `network`: a process in whose network namespace it is.
        `bare`: as a pod's container, with everything in its environment; for one listener.

        No scraper is waited for unless asked for.
        """
        settings = {"final_scrape_wait": "0s", **settings}
        self._directory = tempfile.TemporaryDirectory(prefix="drainproxy-")
        self.control_socket = str(Path(self._directory.name) / "control.sock")
        flags = ["--loop", loop, "--log-format", "json", "--admin", "127.0.0.1:0"]
        places = [listen] * len(upstreams) if isinstance(listen, str) else listen
        for place, address in zip(places, upstreams, strict=True):
            flags += ["--listen", place, "--upstream", address]
        for name, value in settings.items():
            flags += [f"--{name.replace('_', '-')}", value]
        if bare:
            variables = {
                f"DRAINPROXY_{flag.removeprefix('--').replace('-', '_').upper()}": text
                for flag, text in zip(flags[::2], flags[1::2], strict=True)
            }
            env, flags = {**variables, **(env or {})}, []
        self._command = [sys.executable, "-m", "drainproxy", "run", *flags]
        if descriptors is not None:
            self._command = ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *self._command]
        if cgroup is not None:
            join = f'echo $$ > {cgroup}/cgroup.procs; exec "$@"'
            self._command = ["sh", "-c", join, "sh", *self._command]
        if network is not None:
            self._command = ["nsenter", f"--net=/proc/{network}/ns/net", *self._command]
        self._env = environment(DRAINPROXY_CONTROL_SOCKET=self.control_socket, **INSTALLED, **(env or {}))
        # Who waits for the application listens later.
        self._listeners = 0 if settings.get("open_when") == "application" else len(upstreams)
        self._changed = asyncio.Event()
        self.lines: list[dict[str, Any]] = []
        """Every log line so far."""
        self.written = bytearray()
        """The same, as it was written."""
        self.addresses: list[tuple[str, int]] = []
        """Where each listener listens, in the order of the settings."""
        self._clients: list[Client] = []
        self.admin: tuple[str, int] = ("", 0)

    async def __aenter__(self) -> Proxy:
        self._child = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1024 * 1024,
        )
        self._reading = asyncio.get_running_loop().create_task(self._read())
        try:
            for number in range(1 + self._listeners):
                line = await self.nth("listening", number)
                host, _, port = str(line["address"]).rpartition(":")
                address = (host.strip("[]"), int(port))
                if line["listener"] == "admin":
                    self.admin = address
                else:
                    self.addresses.append(address)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    # What it says.

    async def line(self, event: str, /, **match: Any) -> dict[str, Any]:
        """Return the first log line of `event` whose fields are as in `match`; wait for it if need be."""

        def fits(line: dict[str, Any]) -> bool:
            return line["event"] == event and all(line.get(key) == value for key, value in match.items())

        async with self._patience(f"no line {event} {match}"):
            while (found := next(filter(fits, self.lines), None)) is None:
                await self._next_line()
        return found

    async def nth(self, event: str, number: int) -> dict[str, Any]:
        """Return the line of `event` that `number` of its lines came before; wait for it if need be."""
        async with self._patience(f"no {number + 1}. line {event}"):
            while len(found := [line for line in self.lines if line["event"] == event]) <= number:
                await self._next_line()
        return found[number]

    async def ready(self) -> None:
        """Wait until the application answers."""
        await self.line("phase", phase="ready")

    # What is done to it.

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid

    @property
    def ended(self) -> bool:
        """Tell whether the process is known to have ended."""
        return self._child.returncode is not None

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, if it still runs."""
        # `send_signal` would look whether it has ended, and asyncio would never learn with which code.
        with contextlib.suppress(ProcessLookupError):
            if not self.ended:
                os.kill(self.pid, number)

    async def exit_code(self, within_s: float = PATIENCE_S) -> int:
        """Wait for the process's end."""
        async with asyncio.timeout(within_s):
            code = await self._child.wait()
            await self._reading
        return code

    async def said(self) -> str:
        """Return what it has written beside its log, after its end."""
        assert self._child.stderr is not None
        return (await self._child.stderr.read()).decode()

    # What is seen of it.

    async def client(self, listener: int = 0, **how: Any) -> Client:
        """Connect to a listener. Closed at the end if the test has not."""
        client = await Client.connect(self.addresses[listener], **how)
        self._clients.append(client)
        return client

    async def get(self, path: str) -> Message:
        """GET from the admin listener."""
        return await get_admin(self.admin, path)

    async def metrics(self) -> dict[str, float]:
        """Return every series of /metrics by its name with labels, `drainproxy_` left out."""
        return await metrics(self.admin)

    def rss_bytes(self) -> int:
        """Return its resident memory, in bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        """Return how many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208 - counted, not walked

    # Inside.

    async def _read(self) -> None:
        assert self._child.stdout is not None
        async for raw in self._child.stdout:
            self.written += raw
            self.lines.append(json.loads(raw))
            self._changed.set()
        self._changed.set()

    async def _next_line(self) -> None:
        if self._reading.done():
            assert self._child.stderr is not None
            said = (await self._child.stderr.read()).decode()
            raise AssertionError(f"the process is gone: {said[-2000:]} {self.lines[-3:]}")
        await self._changed.wait()
        self._changed.clear()

    @contextlib.asynccontextmanager
    async def _patience(self, complaint: str):
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield
        except TimeoutError:
            raise AssertionError(f"{complaint}; the last lines: {self.lines[-5:]}") from None

    async def _end(self) -> None:
        for client in self._clients:
            client.close()
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()
        await self._reading
        self._directory.cleanup()
