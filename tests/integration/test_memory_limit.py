"""A thousand downloads that nobody reads, under a limit of 128 MiB: nobody is killed, nothing is cut."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration.scene import get, status
from tests.support.cgroup import memory_group
from tests.support.process import Proxy

LIMIT = 128 << 20
SOON_S = 90.0
"""A slow machine makes a thousand connections in less."""
STALLED = 1000
BODY = bytes(range(256)) * 4096
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


class Application(asyncio.Protocol):
    """Answers /small with two bytes and everything else with a MiB."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request."""
        body = b"ok" if data.startswith(b"GET /small") else BODY
        self.transport.write(ANSWER % (len(body), body))


@pytest.mark.slow
async def test_a_thousand_stalled_downloads_do_not_end_the_process(loop_kind, many_descriptors):
    """Other requests are answered meanwhile, and a client that begins to read gets every byte."""
    application = await asyncio.get_running_loop().create_server(Application, "127.0.0.1", 0, backlog=1024)
    address = f"http://127.0.0.1:{application.sockets[0].getsockname()[1]}"
    with memory_group(LIMIT) as group:
        # Where no limit can be set, the process is told what it would have made of it.
        settings = {} if group else {"max_connections": "8192", "max_buffer_bytes": "32MiB"}
        async with Proxy(upstreams=[address], loop=loop_kind, cgroup=group, **settings) as proxy:
            await proxy.ready()
            limits = (await status(proxy))["limits"]
            assert (limits["max_connections"], limits["max_buffer_bytes"]) == (8192, LIMIT // 4)
            clients = []
            for _ in range(STALLED):
                clients.append(await proxy.client())
                await clients[-1].send(get("/large"))
            await proxy.line("buffers", tight=True)
            async with asyncio.timeout(SOON_S):
                while (await proxy.metrics())['requests_in_flight{kind="http"}'] < STALLED:
                    await asyncio.sleep(0.05)
            other = await proxy.client()
            for _ in range(20):
                assert (await other.ask(get("/small"))).body == b"ok"
            assert proxy.rss_bytes() < LIMIT
            for client in (clients[0], clients[-1]):
                assert (await client.final()).body == BODY
            metrics = await proxy.metrics()
            assert metrics["client_connections_evicted_total"] == 0
            assert metrics["buffered_bytes"] > metrics["buffered_bytes_limit"] / 4
            assert not [line for line in proxy.lines if line["event"] in {"request", "defect"}]
    application.close()
