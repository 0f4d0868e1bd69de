"""Under a CPU limit everything takes longer, and nothing is lost: a tenth and a twentieth of a core."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.cgroup import cpu_group
from tests.support.process import Proxy

IN_FLIGHT = 50
ASK = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"


class Application:
    """Holds every request until all of them are let go."""

    def __init__(self) -> None:
        self.held = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A probe hangs up without a word.
        if (await reader.read(2**16)).endswith(b"\r\n\r\n"):
            self.held.release()
            await self.may_answer.wait()
            writer.write(ANSWER)
        writer.close()


@pytest.mark.slow
@pytest.mark.parametrize("millicores", [100, 50])
async def test_a_throttled_drain_ends_with_every_request_answered(millicores: int) -> None:
    """And with every probe answered on its way: the kubelet would kill a container that stays silent."""
    with cpu_group(millicores) as group:
        if group is None:
            pytest.skip("this machine lets nobody limit a group's CPU")
        application = Application()
        server = await asyncio.start_server(application, "127.0.0.1", 0, backlog=IN_FLIGHT)
        host, port = server.sockets[0].getsockname()
        async with (
            server,
            Proxy(
                upstreams=[f"http://{host}:{port}"],
                cgroup=group,
                drain_timeout="60s",
                grace_period="90s",
                propagation="none",
            ) as proxy,
        ):
            await proxy.ready()
            wires = [await asyncio.open_connection(*proxy.addresses[0]) for _ in range(IN_FLIGHT)]
            for _, writer in wires:
                writer.write(ASK)
            for _ in wires:
                await application.held.acquire()
            proxy.signal()
            await proxy.line("phase", phase="draining")
            for _ in range(5):
                assert (await proxy.get("/livez")).status == 200
            application.may_answer.set()
            for reader, writer in wires:
                assert (await reader.read()).endswith(b"\r\n\r\ndone")
                writer.close()
            assert await proxy.exit_code() == 0
            report = await proxy.line("drain_report")
            assert report["requests"]["finished"] == IN_FLIGHT
