"""The beginning: applications that come late, ports that are taken, settings that make no sense."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket

import pytest

from tests.integration.application import Application
from tests.integration.scene import NOT_UP, OK, events, get, in_flight, on_one_loop, post, undated
from tests.support.command import drainproxy
from tests.support.upstream import answering


async def test_requests_wait_for_an_application_that_starts_late(start, free_port):
    """They came in `starting`: none is refused, and each reaches the application once."""
    proxy = await start(f"http://127.0.0.1:{free_port.number}", ready=False, connect_timeout="15s")
    clients = [await proxy.client() for _ in range(10)]
    for number, client in enumerate(clients):
        await client.send(post(b"order", path=f"/{number}"))
    assert (await proxy.get("/startupz")).status == 200
    assert (await proxy.get("/readyz")).status == 503
    await in_flight(proxy, 10)
    async with Application(port=free_port.leave()) as upstream:
        seen = []
        for _ in clients:
            connection = await upstream.connection_with_bytes()
            request = await connection.read_request()
            assert request.body == b"order"
            seen.append(request.start)
            await connection.send(OK)
        assert sorted(seen) == [b"POST /%d HTTP/1.1" % number for number in range(10)]
        for client in clients:
            assert (await client.final("POST")).raw == OK
        await proxy.ready()
        assert (await proxy.get("/readyz")).status == 200


@on_one_loop
async def test_an_application_on_a_unix_socket_may_come_late_too(start, tmp_path):
    """There is not even a file at first; then a dead one; then the application."""
    path = tmp_path / "application.sock"
    proxy = await start(f"unix:{path}", ready=False, connect_timeout="15s")
    early = await proxy.client()
    await early.send(get("/early"))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        later = await proxy.client()
        await later.send(get("/later"))
        await in_flight(proxy, 2)
    path.unlink()
    async with Application(answering(OK), path=path):
        for client in (early, later):
            assert (await client.final()).raw == OK
        await proxy.ready()


@on_one_loop
async def test_an_application_that_comes_too_late_is_a_503(start, nobody):
    """After `connect_timeout` the caller learns that it may try again, and may do so here."""
    proxy = await start(nobody, ready=False, connect_timeout="300ms")
    client = await proxy.client()
    for _ in range(2):
        assert undated(await client.ask(get())) == NOT_UP
    line = await proxy.line("request", reason="upstream-refused")
    assert line["sent"] is False
    assert line["duration_s"] >= 0.29


async def test_while_an_application_is_away_its_callers_are_refused_and_then_served_again(start):
    """A restart of the application: whoever is connected is sent away, newcomers find the door shut, as they
    would have found the application's; it opens soon after the return."""
    async with Application(answering(OK)) as upstream:
        port = upstream.port
        proxy = await start(upstream)
        client, asker, sender = [await proxy.client() for _ in range(3)]
        for each in (client, asker, sender):
            assert (await each.ask(get())).raw == OK
    assert not await client.read_until_close()
    assert (await proxy.line("application"))["state"] == "refuses connections"
    for each in (asker, sender):
        assert not await each.read_until_close()
    # The door is shut a few turns of the loop later.
    with pytest.raises(ConnectionRefusedError):
        while True:
            with contextlib.suppress(ConnectionResetError):
                (await proxy.client()).close()
    async with Application(answering(OK), port=port), asyncio.timeout(5.0):
        await proxy.line("application", state="accepts connections")
        while True:
            try:
                client = await proxy.client()
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                break
        assert (await client.ask(get())).raw == OK
    # A short absence is no loss of readiness.
    assert [line["phase"] for line in events(proxy, "phase")] == ["ready"]


@on_one_loop
@pytest.mark.slow
async def test_readiness_is_lost_after_ten_seconds_and_comes_back_at_once(start):
    """Ten seconds of refused connections, and no moment less; the kubelet learns of the return at once."""
    async with Application(answering(OK)) as upstream:
        port = upstream.port
        proxy = await start(upstream)
    loop = asyncio.get_running_loop()
    went = loop.time()
    async with asyncio.timeout(20.0):
        while (await proxy.get("/readyz")).status == 200:
            await asyncio.sleep(0.05)
    assert loop.time() - went >= 10.0
    assert (await proxy.get("/livez")).status == 200
    async with Application(answering(OK), port=port), asyncio.timeout(5.0):
        while (await proxy.get("/readyz")).status == 503:
            await asyncio.sleep(0.02)


@on_one_loop
@pytest.mark.parametrize("which", ["listen", "admin"])
def test_a_port_in_use_is_one_line_and_71(loop_kind, which):
    """Which address, and why; no traceback, nothing on stdout."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        addresses = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", which: f"127.0.0.1:{port}"}
        flags = [part for name, address in addresses.items() for part in (f"--{name}", address)]
        run = drainproxy("run", *flags, "--loop", loop_kind, timeout_s=10.0)
    assert run.returncode == 71
    assert run.stderr == f"drainproxy: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert run.stdout == ""


@on_one_loop
def test_settings_that_make_no_sense_are_all_named_and_64(loop_kind):
    """One line each, with the name, where it came from and what was written; nothing starts."""
    run = drainproxy(
        "run",
        *("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"),
        *("--settle", "200", "--propagation", "clutser"),
        env={
            "DRAINPROXY_GRACE_PERIOD": "-3s",
            "DRAINPROXY_UPSTREAM": "localhost",
            "DRAINPROXY_LOOP": loop_kind,
        },
        timeout_s=10.0,
    )
    assert (run.returncode, run.stdout) == (64, "")
    lines = run.stderr.splitlines()
    found = {
        match[1]: match[2] for line in lines if (match := re.match(r"drainproxy: (\w+) \((.+?)\): ", line))
    }
    assert found == {
        "settle": "flag --settle",
        "propagation": "flag --propagation",
        "grace_period": "env DRAINPROXY_GRACE_PERIOD",
        "upstream": "env DRAINPROXY_UPSTREAM",
    }
    assert len(lines) == 4
    for written in ("200", "clutser", "-3s", "localhost"):
        assert f'"{written}"' in run.stderr
