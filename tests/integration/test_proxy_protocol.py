"""A real process behind a real HAProxy and before a real curl, which send PROXY headers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter

import pytest

from tests.integration.application import Application
from tests.integration.scene import OK, OK_CLOSE, command, entered, get
from tests.integration.test_last_connections import ask_alone
from tests.integration.test_tls import run
from tests.support.client import Client
from tests.support.session import Session
from tests.support.upstream import answering

BELIEVED = {"proxy_protocol": "true", "trusted_proxies": "127.0.0.1"}
HEADER = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n"


@contextlib.asynccontextmanager
async def haproxy(directory, server: str):
    """Run HAProxy before `server`; yield where it listens. It inherits the socket: no port is guessed."""
    with socket.create_server(("127.0.0.1", 0)) as front:
        front.set_inheritable(True)
        config = directory / "haproxy.cfg"
        config.write_text(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n"
            f"listen all\n  bind fd@{front.fileno()}\n  server s {server}\n"
        )
        child = await asyncio.create_subprocess_exec(
            "haproxy", "-db", "-q", "-f", str(config), pass_fds=(front.fileno(),)
        )
        try:
            yield front.getsockname()
        finally:
            child.terminate()
            await child.wait()


@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2", "send-proxy-v2 ssl verify none"])
async def test_haproxy_tells_who_its_client_is(start, upstream, tls, tmp_path, how):
    settings = BELIEVED | tls if "ssl" in how else BELIEVED
    proxy = await start(upstream, access_log="all", **settings)
    async with haproxy(tmp_path, f"127.0.0.1:{proxy.addresses[0][1]} {how}") as front:
        wire = socket.socket()
        wire.bind(("127.0.0.5", 0))
        wire.connect(front)
        async with Client(wire) as client:
            await client.send(get())
            connection = await upstream.connection_with_bytes()
            request = await connection.read_request()
            assert request.one(b"x-forwarded-for") == b"127.0.0.5"
            await connection.send(OK)
            assert (await client.final()).body == b"ok"
            assert (await proxy.line("request"))["client"] == "127.0.0.5"


async def test_curl_sends_a_header_before_tls(start, authority, tls):
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, **BELIEVED, **tls)
        url = f"https://localhost:{proxy.addresses[0][1]}/"
        code, said = await run("curl", "-sS", "--haproxy-protocol", "--cacert", str(authority.file), url)
        assert (code, said) == (0, "ok")
        code, said = await run("curl", "-sS", "--cacert", str(authority.file), url)
        assert code != 0
        metrics = await proxy.metrics()
        assert metrics['refused_total{reason="proxy-header-refused"}'] == 1


async def test_a_flood_with_headers_and_handshakes_at_the_exit_loses_none(start, authority, tls):
    ours = authority.trusted()
    outcomes: Counter[bytes] = Counter()
    flowing = asyncio.Event()

    async def call_until_gone(proxy) -> None:
        while True:
            try:
                client = await proxy.client()
            except ConnectionError:
                return
            await client.send(HEADER)
            client.session = Session(ours, name="localhost")
            outcomes.update(await ask_alone(client))
            if outcomes.total() > 100:
                flowing.set()

    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, **BELIEVED, **tls)
        assert (await command(proxy, "drain", "--prestop"))[0] == 0
        await proxy.line("phase", phase="drained")
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(call_until_gone(proxy))
            await flowing.wait()
            proxy.signal()
        assert outcomes.keys() == {OK_CLOSE}, outcomes
        assert await proxy.exit_code() == 0


async def test_a_health_check_by_the_balancer_itself_is_answered(start, upstream):
    """LOCAL: it speaks for itself."""
    proxy = await start(upstream, **BELIEVED)
    client = await proxy.client()
    await client.send(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00" + get("/healthz"))
    connection = await entered(upstream)
    await connection.send(OK)
    assert (await client.final()).body == b"ok"
