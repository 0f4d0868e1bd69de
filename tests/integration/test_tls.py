"""Callers of a real process speak TLS with real programs, while certificates change and the pod ends."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import pytest

from drainproxy import certificates
from drainproxy.certificates import Files
from tests.integration.application import Application
from tests.integration.scene import OK, OK_CLOSE, command, get, stopped
from tests.integration.test_last_connections import answers, ask_all, ask_alone
from tests.support.command import drainproxy
from tests.support.upstream import answering

HTTPS = "https://127.0.0.1:0"


@pytest.fixture
def ours(authority):
    return authority.trusted()


async def run(*arguments: str) -> tuple[int, str]:
    """Run a program; return its exit code and everything it said."""
    child = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, said.decode("utf-8", "replace")


async def test_curl_and_openssl_are_content(start, tls, authority):
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, **tls)
        port = proxy.addresses[0][1]
        url = f"https://localhost:{port}/"
        code, said = await run("curl", "-sSv", "--cacert", str(authority.file), url, url)
        assert code == 0, said
        assert said.count("HTTP/1.1 200 OK") == 2
        assert "ALPN: server accepted http/1.1" in said
        assert "Re-using existing connection" in said or "Connection #0 to host localhost left" in said
        connect = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-alpn", "h2,http/1.1"]
        code, said = await run(*connect, "-CAfile", str(authority.file), "-verify_return_error")
        assert "ALPN protocol: http/1.1" in said
        assert "Verify return code: 0 (ok)" in said
        code, said = await run(*connect, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        assert code != 0
        assert "alert protocol version" in said


async def test_sighup_takes_a_new_certificate_in_and_keeps_it_when_the_next_is_broken(
    start, tls, authority, ours
):
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, **tls)
        old = await proxy.client(tls=ours)
        assert (await old.ask(get())).raw == OK
        authority.issue("new.test")
        proxy.signal(signal.SIGHUP)
        await proxy.line("certificate", level="info")
        new = await proxy.client(tls=ours, name="new.test")
        assert (await new.ask(get())).raw == OK
        authority.issue("bad.test")[0].write_text("nothing")
        proxy.signal(signal.SIGHUP)
        line = await proxy.line("certificate", level="error")
        assert line["kept"] is True
        for client in (old, new, await proxy.client(tls=ours, name="new.test")):
            assert (await client.ask(get())).raw == OK
        metrics = await proxy.metrics()
        assert metrics['certificate_reloads_total{result="ok"}'] == 1
        assert metrics['certificate_reloads_total{result="failed"}'] == 1
        assert 29 < metrics['certificate_expiry_seconds{used_for="clients"}'] / 86400 <= 30
        assert metrics['tls_handshakes_total{result="ok"}'] == 3


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"tls_key": "/nowhere/tls.key"}, "/nowhere/tls.key: no such file"),
        ({"tls_key": ""}, "needs tls_certificate and tls_key"),
        ({"tls_client": "required"}, "needs tls_client_ca"),
        ({"listen": "127.0.0.1:0"}, "is used by no listener"),
        ({"listen": ":0", "tls_client": "required"}, 'tls_client (flag --tls-client): "required" is used'),
        (
            {"listen": ":0", "tls_client": "required", "tls_certificate": "", "tls_key": ""},
            "https:// before an address of `listen`",
        ),
        ({"listen": ":0", "tls_certificate": ""}, "tls_key (flag --tls-key):"),
    ],
)
async def test_what_cannot_be_served_stops_the_start_with_one_line(tls, changed, complaint):
    settings = {**tls, **changed}
    flags = [part for name, value in settings.items() if value
             for part in (f"--{name.replace('_', '-')}", value)]  # fmt: skip
    for verb in (["run"], ["config", "--check"]):
        done = await asyncio.to_thread(drainproxy, *verb, *flags)
        assert done.returncode == 64
        (line,) = done.stderr.splitlines()
        assert complaint in line


async def test_what_the_kernel_completed_during_a_pause_shakes_hands_and_is_answered(start, tls, ours):
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, settle="400ms", **tls)
        assert (await command(proxy, "drain", "--prestop"))[0] == 0
        await proxy.line("phase", phase="drained")
        async with stopped(proxy):
            clients = [await proxy.client(tls=ours) for _ in range(30)]
            proxy.signal()
        await ask_all(clients, "/soon")
        assert await answers(clients) == {OK_CLOSE: 30}
        assert await proxy.exit_code() == 0


async def test_a_flood_of_handshakes_at_the_exit_loses_none_that_connected(start, tls, ours):
    outcomes: Counter[bytes] = Counter()
    flowing = asyncio.Event()

    async def call_until_gone(proxy) -> None:
        while True:
            try:
                client = await proxy.client(tls=ours)
            except ConnectionError:
                return
            outcomes.update(await ask_alone(client))
            if outcomes.total() > 100:
                flowing.set()

    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, **tls)
        assert (await command(proxy, "drain", "--prestop"))[0] == 0
        await proxy.line("phase", phase="drained")
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(call_until_gone(proxy))
            await flowing.wait()
            proxy.signal()
        assert outcomes.keys() == {OK_CLOSE}, outcomes
        assert await proxy.exit_code() == 0


@pytest.mark.parametrize("probe", [{}, {"probe_path": "/healthz"}])
async def test_both_sides_speak_tls(start, tls, authority, ours, probe):
    files = Files(certificate=tls["tls_certificate"], key=tls["tls_key"])
    async with Application(answering(OK), tls=certificates.for_clients(files)) as upstream:
        named = {"upstream_ca": str(authority.file), "upstream_server_name": "localhost"}
        proxy = await start(upstream, **tls, **named, **probe)
        client = await proxy.client(tls=ours)
        assert (await client.ask(get())).raw == OK
        metrics = await proxy.metrics()
        assert metrics['certificate_expiry_seconds{used_for="clients"}'] > 0
        assert 'certificate_expiry_seconds{used_for="upstream"}' not in metrics


async def test_an_application_that_is_not_believed_is_never_ready(start, authority, tls):
    files = Files(certificate=tls["tls_certificate"], key=tls["tls_key"])
    async with Application(answering(OK), tls=certificates.for_clients(files)) as upstream:
        proxy = await start(upstream, ready=False, upstream_ca=str(authority.file))
        client = await proxy.client()
        answer = await client.ask(get())
        assert answer.status == 502
        assert b"upstream-untrusted" in (answer.one(b"proxy-status") or b"")
        assert (await proxy.get("/readyz")).status == 503


async def test_status_answers_while_the_certificate_on_disk_is_broken(start, tls):
    """That is when somebody looks."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, **tls)
        broken = {"DRAINPROXY_LISTEN": HTTPS, "DRAINPROXY_TLS_CERTIFICATE": "/nowhere"}
        admin = f"127.0.0.1:{proxy.admin[1]}"
        done = await asyncio.to_thread(drainproxy, "status", "--json", "--admin", admin, env=broken)
        assert (done.returncode, done.stderr) == (0, "")
