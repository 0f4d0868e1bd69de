"""Nobody reads stdout: lines are given up, requests are not."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.integration.scene import OK, OK_CLOSE, entered, get
from tests.support.process import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

F_SETPIPE_SZ = 1031
"""linux/fcntl.h; the module fcntl names it from Python 3.10 on only where the C library does."""

BROKEN = (
    b"BAD\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"FETCH / HTTP/1.1\r\nHost: test\r\n\r\n",
    b"GET / HTTP/3.0\r\nHost: test\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: test\r\n\r\n",
)


class Unread(Proxy):
    """A process whose stdout is a pipe of one page, read only until it has said where it listens."""

    async def __aenter__(self) -> Unread:
        self._read_end, write_end = os.pipe()
        fcntl.fcntl(write_end, F_SETPIPE_SZ, 4096)
        self._child = await asyncio.create_subprocess_exec(
            *self._command, env=self._env, stdout=write_end, stderr=asyncio.subprocess.PIPE
        )
        os.close(write_end)
        self._reading = asyncio.get_running_loop().create_task(self._read())
        await self.ready()
        for line in self.lines:
            if line["event"] == "listening":
                address = ("127.0.0.1", int(line["address"].rpartition(":")[2]))
                if line["listener"] == "admin":
                    self.admin = address
                else:
                    self.addresses.append(address)
        return self

    async def _read(self) -> None:
        rest = b""
        while not any(line.get("phase") == "ready" for line in self.lines):
            data = await asyncio.to_thread(os.read, self._read_end, 4096)
            assert data, "the process is gone"
            *whole, rest = (rest + data).split(b"\n")
            self.lines += [json.loads(line) for line in whole]
            self._changed.set()

    def close_stdout(self) -> None:
        """Let whoever read be gone: writes fail from now on."""
        os.close(self._read_end)
        self._read_end = -1

    async def _end(self) -> None:
        await super()._end()
        if self._read_end >= 0:
            self.close_stdout()


async def serve_and_drain(proxy: Unread, upstream) -> None:
    """Answer requests whose lines the pipe cannot hold; then drain, with one request held."""
    for number in range(60):
        client = await proxy.client()
        await client.send(get(f"/{number}/" + "long" * 40))
        await (await entered(upstream)).send(OK_CLOSE)
        assert (await client.final()).raw == OK
        client.close()
        # Ten lines a second for what clients can cause at will: each broken request has a limit of its own.
        client = await proxy.client()
        assert (await client.ask(BROKEN[number % len(BROKEN)])).status >= 400
        client.close()
    client = await proxy.client()
    await client.send(get())
    application = await entered(upstream)
    proxy.signal()
    while (await proxy.metrics())['phase{phase="draining"}'] != 1:
        await asyncio.sleep(0.01)
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    assert await proxy.exit_code() == 0


@pytest.fixture
async def unread(upstream, loop_kind: str) -> AsyncIterator[Unread]:
    """A process that logs every request."""
    settings = {"access_log": "all", "settle": "100ms"}
    async with Unread(upstreams=[upstream.address], loop=loop_kind, **settings) as proxy:
        yield proxy


async def test_a_blocked_stdout_holds_neither_requests_nor_the_drain(unread, upstream):
    """The pipe is full and stays full; the process serves, drains and exits."""
    await serve_and_drain(unread, upstream)
    # What it holds is what came first: no room was left for the end.
    held = os.read(unread._read_end, 65536)
    assert len(held) > 3000
    assert b"drain_report" not in held


async def test_a_stdout_that_nobody_holds_any_more_is_no_reason_to_end(unread, upstream):
    """A log collector died: writes fail, requests do not."""
    unread.close_stdout()
    await serve_and_drain(unread, upstream)
