"""Signals at awkward moments: before the application, before the imports, to PID 1, in storms, twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.integration.application import Application
from tests.integration.scene import (
    DRAIN_DEADLINE,
    NOT_UP_CLOSE,
    OK,
    OK_CLOSE,
    events,
    get,
    held,
    in_flight,
    on_one_loop,
    report,
    undated,
    until,
)
from tests.support.command import environment
from tests.support.upstream import answering
from tests.support.wire import PATIENCE_S


async def test_sigterm_before_the_application_was_ever_up_ends_at_once(start, nobody):
    """Nobody was told to come here, so there is nothing to wait for."""
    proxy = await start(nobody, ready=False, settle="200ms")
    proxy.signal()
    assert await proxy.exit_code() == 0
    assert [line["phase"] for line in events(proxy, "phase")] == ["draining", "drained"]
    await report(proxy)


async def test_a_request_that_waits_for_the_application_is_told_so_at_the_end(start, nobody):
    """SIGTERM in `starting`: what was admitted is answered, if only with 503 after `connect_timeout`."""
    proxy = await start(nobody, ready=False, connect_timeout="250ms")
    client = await proxy.client()
    await client.send(get())
    await in_flight(proxy, 1)
    proxy.signal()
    assert undated(await client.final()) == NOT_UP_CLOSE
    client.close()
    assert await proxy.exit_code() == 0


async def test_a_hundred_sigterms_change_nothing(start, upstream):
    """One drain, one plan, one report, and the request under way is finished."""
    proxy = await start(upstream)
    client, application = await held(proxy, upstream)
    for _ in range(100):
        proxy.signal()
        await asyncio.sleep(0.002)
    await application.send(OK)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    # To its very end: what comes when all is done does not change the exit code.
    while not proxy.ended:
        proxy.signal()
        await asyncio.sleep(0.002)
    assert await proxy.exit_code() == 0
    assert len(events(proxy, "drain_plan")) == len(events(proxy, "drain_report")) == 1
    await report(proxy, finished=1)


@on_one_loop
async def test_sighup_is_no_reason_to_end(start):
    """It asks for certificates to be read again; traffic does not notice."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream)
        client = await proxy.client()
        for _ in range(3):
            proxy.signal(signal.SIGHUP)
            assert (await client.ask(get())).raw == OK
        proxy.signal()
        assert await proxy.exit_code() == 0


async def test_a_second_sigint_cuts_at_once(start, upstream):
    """The first one drains as SIGTERM does; a person who insists does not want to wait."""
    proxy = await start(upstream)
    waiting, _ = await held(proxy, upstream)
    streaming, application = await held(proxy, upstream)
    await application.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.")
    assert (await streaming.read_to(b"half."))[:15] == b"HTTP/1.1 200 OK"
    proxy.signal(signal.SIGINT)
    await proxy.line("phase", phase="draining")
    proxy.signal(signal.SIGINT)
    assert undated(await waiting.final()) == DRAIN_DEADLINE
    assert await streaming.read_eof() == "reset"
    waiting.close()
    assert await proxy.exit_code() == 0
    line = await report(proxy, timed_out=1, cut=1)
    assert line["ended_by"] == "interrupted twice"


async def test_a_second_sigint_ends_the_wait_for_a_last_scrape(start, upstream):
    """Nothing is left to cut, and still a person waits: at once means at once."""
    proxy = await start(upstream, final_scrape_wait="60s", grace_period="120s")
    await proxy.metrics()
    client, application = await held(proxy, upstream)
    proxy.signal(signal.SIGINT)
    await proxy.line("phase", phase="draining")
    other = await proxy.client()
    await other.send(get("/", "Connection: Upgrade", "Upgrade: websocket"))
    assert (await other.final()).start.startswith(b"HTTP/1.1 503 ")
    other.close()
    await application.send(OK_CLOSE)
    assert (await client.final()).raw == OK_CLOSE
    client.close()
    line = await proxy.line("last_scrape")
    assert line["within_s"] > PATIENCE_S
    proxy.signal(signal.SIGINT)
    assert await proxy.exit_code() == 0


async def test_a_second_sigint_at_the_very_end_is_no_defect(start):
    """Idle clients are still read for a moment, and there is nothing left to cut short."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, linger="60s")
        client = await proxy.client()
        assert (await client.ask(get())).raw == OK
        proxy.signal(signal.SIGINT)
        assert await client.read_eof() == "fin"
        proxy.signal(signal.SIGINT)
        # Its loop has turned since.
        await proxy.metrics()
        client.close()
        assert await proxy.exit_code() == 0
    assert events(proxy, "library") == []


class Early:
    """A process that may be signalled before it says anything. `wrapped`: a command in front of it."""

    def __init__(self, directory: Path, upstream: str, loop_kind: str, *wrapped: str) -> None:
        settings = {
            "DRAINPROXY_CONTROL_SOCKET": str(directory / "control.sock"),
            "DRAINPROXY_LISTEN": "127.0.0.1:0",
            "DRAINPROXY_UPSTREAM": upstream,
            "DRAINPROXY_ADMIN": "127.0.0.1:0",
            "DRAINPROXY_LOOP": loop_kind,
            "DRAINPROXY_LOG_FORMAT": "json",
        }
        self._env = environment(**settings)
        self._command = [*wrapped, sys.executable, "-m", "drainproxy", "run"]

    async def __aenter__(self) -> Early:
        self.child = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.child.returncode is None:
            self.child.kill()
            await self.child.communicate()

    async def end(self, within_s: float = PATIENCE_S) -> tuple[int, list[dict[str, object]], str]:
        """Return exit code, log lines and stderr."""
        async with asyncio.timeout(within_s):
            out, err = await self.child.communicate()
        assert self.child.returncode is not None
        return self.child.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


def catches_sigterm(pid: int) -> bool:
    """Tell whether a handler for SIGTERM is installed (proc(5): SigCgt)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    return False


async def test_sigterm_before_the_imports_are_done_is_not_lost(tmp_path, loop_kind, nobody):
    """The pod is deleted as its container starts: the signal is kept until the loop runs."""
    async with Early(tmp_path, nobody, loop_kind) as early:
        await until(lambda: catches_sigterm(early.child.pid), "no handler for SIGTERM")
        early.child.send_signal(signal.SIGTERM)
        code, lines, err = await early.end()
    assert (code, err) == (0, "")
    assert [line["event"] for line in lines if line["event"] in {"drain_plan", "drain_report", "exit"}] == [
        "drain_plan",
        "drain_report",
        "exit",
    ]
    # It had not begun to listen when the signal came.
    assert [line["event"] for line in lines][:2] == ["limits", "listening"]


def namespaces() -> list[str] | None:
    """Return a command that makes its child PID 1, or None where that is not allowed."""
    import subprocess

    for user in ([], ["--user", "--map-root-user"]):
        attempt = ["unshare", *user, "--pid", "--fork", "--kill-child"]
        with contextlib.suppress(OSError):
            if subprocess.run([*attempt, "true"], capture_output=True, check=False).returncode == 0:
                return attempt
    return None


async def test_pid_1_obeys_sigterm(tmp_path, loop_kind):
    """The kernel drops a signal to PID 1 that has no handler: the pod would hang for its grace period."""
    unshare = namespaces()
    if unshare is None:
        pytest.skip("this user may not make a PID namespace")
    async with (
        Application(answering(OK)) as upstream,
        Early(tmp_path, upstream.address, loop_kind, *unshare) as early,
    ):
        assert early.child.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while b'"phase":"ready"' not in await early.child.stdout.readline():
                pass
        children = Path(f"/proc/{early.child.pid}/task/{early.child.pid}/children").read_text()
        (first,) = map(int, children.split())
        inner = Path(f"/proc/{first}/status").read_text().splitlines()
        assert next(line for line in inner if line.startswith("NSpid:")).endswith("\t1")
        os.kill(first, signal.SIGTERM)
        code, lines, err = await early.end()
    assert (code, err) == (0, "")
    assert lines[-1]["event"] == "exit"
