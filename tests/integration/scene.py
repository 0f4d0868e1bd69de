"""Words that the integration tests share: requests, answers as bytes, and what is done to a process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.support.client import Client
from tests.support.command import environment
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.integration.application import Application
    from tests.support.message import Message
    from tests.support.process import Proxy
    from tests.support.upstream import Connection

DATE = b"Date: Tue, 01 Jan 2030 00:00:00 GMT\r\n"
"""In scripted answers, so that what the proxy sends can be compared byte by byte."""
OK = b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 2\r\n\r\nok"
OK_CLOSE = b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 2\r\nConnection: close\r\n\r\nok"
"""OK as a client gets it whose connection ends with it.

As an answer of the application it also ends the application's connection: the next request takes a new one.
"""


WAIT = b"GET /drain/wait HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"
"""What an application's preStop hook asks the admin port."""


class Start(Protocol):
    """The fixture `start`."""

    async def __call__(self, *upstreams: Application | str, ready: bool = True, **settings: str) -> Proxy: ...


def short(settings: dict[str, str]) -> dict[str, str]:
    """Fill in settings that let a test end soon and change nothing it looks at."""
    return {"settle": "50ms", "linger": "200ms", **settings}


def get(path: str = "/", *fields: str, version: str = "1.1") -> bytes:
    """Return a GET request."""
    lines = [f"GET {path} HTTP/{version}", "Host: test", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def post(body: bytes, *fields: str, path: str = "/") -> bytes:
    """Return a POST request with a Content-Length."""
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def entered(upstream: Application) -> Connection:
    """Return the application's end of the next request, once its head and body are in the application."""
    connection = await upstream.connection_with_bytes()
    assert (await connection.read_request()).start
    return connection


async def held(proxy: Proxy, upstream: Application, request: bytes = b"") -> tuple[Client, Connection]:
    """Return both ends of a request that the application holds."""
    client = await proxy.client()
    await client.send(request or get())
    return client, await entered(upstream)


def refusal(status: bytes, reason: bytes, error: bytes, *, close: bool = True) -> bytes:
    """Return a 503 of the proxy's own as it must be sent, without its Date line."""
    body = status + b": " + reason + b"\n"
    return (
        b"HTTP/1.1 " + status + b"\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: %d\r\n"
        b"Cache-Control: no-store\r\n"
        b'Proxy-Status: drainproxy; error=%b; details="%b"\r\n'
        b"Retry-After: 1\r\n"
        b"%b\r\n%b" % (len(body), error, reason, b"Connection: close\r\n" if close else b"", body)
    )


DRAIN_DEADLINE = refusal(b"503 Service Unavailable", b"drain-deadline", b"proxy_internal_response")
NOT_UP_CLOSE = refusal(b"503 Service Unavailable", b"upstream-refused", b"connection_refused")
NOT_UP = refusal(b"503 Service Unavailable", b"upstream-refused", b"connection_refused", close=False)
DRAIN_ENDING = refusal(b"503 Service Unavailable", b"drain-ending", b"proxy_internal_response")


def undated(message: Message) -> bytes:
    """Return a message's bytes without its one Date line."""
    date = b"Date: " + (message.one(b"date") or b"") + b"\r\n"
    assert message.raw.count(date) == 1
    return message.raw.replace(date, b"")


async def until(reached: Callable[[], bool], complaint: str, within_s: float = PATIENCE_S) -> None:
    """Look again and again until `reached()`: for what the kernel tells nobody."""
    try:
        async with asyncio.timeout(within_s):
            while not reached():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(complaint) from None


@contextlib.asynccontextmanager
async def stopped(proxy: Proxy) -> AsyncIterator[None]:
    """Keep the process from running at all for the length of the block, as a CPU limit does."""
    proxy.signal(signal.SIGSTOP)
    await until(lambda: _state(proxy.pid) == "T", "the process does not stop")
    try:
        yield
    finally:
        proxy.signal(signal.SIGCONT)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def command(proxy: Proxy, *arguments: str) -> tuple[int, str]:
    """Run `drainproxy ARGUMENTS` beside the process, as a hook does; return exit code and what it said."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "drainproxy",
        *arguments,
        env=environment(DRAINPROXY_CONTROL_SOCKET=proxy.control_socket),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None
    return child.returncode, out.decode().strip()


async def report(proxy: Proxy, **requests: int) -> dict[str, Any]:
    """Return the drain's report; its outcomes must be `requests` and 0 everywhere else."""
    line = await proxy.line("drain_report")
    expected = dict.fromkeys(("finished", "timed_out", "cut", "refused", "lost"), 0) | requests
    expected.setdefault("late", 0)
    assert line["requests"] == expected
    return line


async def status(proxy: Proxy) -> dict[str, Any]:
    """Return /status; asked by a name that no web site could have for itself."""
    async with await Client.connect(proxy.admin) as client:
        answer = await client.ask(b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    document: dict[str, Any] = json.loads(answer.body)
    return document


async def waiting_hook(proxy: Proxy, others: int = 0) -> asyncio.Task[str]:
    """Ask /drain/wait as an application's preStop hook does; return once it waits beside the `others`."""
    client = await Client.connect(proxy.admin)
    await client.send(WAIT)

    async def answered() -> str:
        answer = await client.final()
        client.close()
        assert answer.status == 200
        return answer.body.decode().strip()

    task = asyncio.ensure_future(answered())
    async with asyncio.timeout(PATIENCE_S):
        while (await status(proxy))["hooks_waiting"] <= others:
            await asyncio.sleep(0.01)
    return task


async def in_flight(proxy: Proxy, count: int) -> None:
    """Return once `count` requests are in the proxy: nobody is told when it reads them, so it is asked."""
    async with asyncio.timeout(PATIENCE_S):
        while (await proxy.metrics())['requests_in_flight{kind="http"}'] != count:
            await asyncio.sleep(0.01)


def events(proxy: Proxy, event: str) -> list[dict[str, Any]]:
    """Return the log lines of one event so far."""
    return [line for line in proxy.lines if line["event"] == event]


def defect(
    number: str, what: str, *, on: str = "uvloop asyncio", always: bool = True
) -> pytest.MarkDecorator:
    """Mark a test that shows a defect not mended yet, on the loops it shows on: it must fail there."""
    failures = (AssertionError, TimeoutError)
    mark = pytest.mark.xfail(strict=always, raises=failures, reason=f"{number}: {what}")
    return pytest.mark.parametrize(
        "loop_kind",
        [pytest.param(kind, marks=mark if kind in on.split() else ()) for kind in ("uvloop", "asyncio")],
    )


on_one_loop = pytest.mark.parametrize("loop_kind", ["uvloop"])
"""For what does not depend on the event loop."""
