"""A warm-up by a real process: its probes, its numbers, and calls of gRPC by grpcio's server."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.integration.scene import until
from tests.support.process import Proxy, metrics
from tests.support.upstream import Upstream
from tests.support.words import OK, get

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.upstream import Connection

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
HEALTH = "/grpc.health.v1.Health/Check"


class Health(grpc.GenericRpcHandler):
    """Answers the health service's call, with more than a window of HTTP/2 holds in all."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bytes]] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """See grpc."""

        async def check(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
            self.calls.append((details.method, request))
            return b"\x08\x01" + bytes(9000)

        return grpc.unary_unary_rpc_method_handler(check)


@contextlib.asynccontextmanager
async def grpc_server() -> AsyncIterator[tuple[Health, str]]:
    """A server of grpcio."""
    health, server = Health(), grpc.aio.server()
    server.add_generic_rpc_handlers((health,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield health, f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def test_calls_of_grpc_warm_an_application_too() -> None:
    """Unary, with an empty message; each ends before the next one."""
    async with grpc_server() as (health, address):
        how = {"warmup": HEALTH, "warmup_method": "grpc", "warmup_count": "40", "warmup_concurrency": "3"}
        async with Proxy(upstreams=[address], **how) as proxy:
            await proxy.ready()
            assert health.calls == [(HEALTH, b"")] * 40
            (line,) = [line for line in proxy.lines if line["event"] == "warmup"]
            assert (line["answered"], line["failed"], line["ended_by"]) == (40, 0, "count")


async def test_readiness_waits_for_it_and_the_start_does_not() -> None:
    """A native sidecar that were not started would hold its application back."""
    go, inside = asyncio.Event(), asyncio.Event()

    async def handle(connection: Connection) -> None:
        while (request := await connection.read_request()).start:
            if request.start.startswith(b"GET /warm"):
                inside.set()
                await go.wait()
            await connection.send(OK)

    async with Upstream(handle) as application:
        how = {"warmup": "/warm", "warmup_count": "5", "warmup_concurrency": "1"}
        async with Proxy(upstreams=[application.address], **how) as proxy:
            await inside.wait()
            assert (await proxy.get("/startupz")).status == 200
            answer = await proxy.get("/readyz")
            assert (answer.status, answer.body) == (503, b"not ready: the application is being warmed up\n")
            client = await proxy.client()
            assert (await client.ask(get("/caller"))).body == b"ok"
            go.set()
            await proxy.ready()
            assert (await proxy.get("/readyz")).status == 200
            numbers = await metrics(proxy.admin)
            assert numbers['warmup_requests_total{result="answered"}'] == 5
            assert numbers["warmup_seconds"] > 0
            assert numbers["first_minute_duration_seconds_count"] == 1
            assert numbers["request_duration_seconds_count"] == 1


async def test_a_connection_that_ends_between_two_calls_is_made_anew() -> None:
    """A server that hangs up on HTTP/2: each call fails, and the warm-up ends all the same."""

    async def hang_up(connection: Connection) -> None:
        await connection.more()

    async with Upstream(hang_up) as application:
        how = {"warmup": HEALTH, "warmup_method": "grpc", "warmup_count": "4"}
        async with Proxy(upstreams=[application.address], **how) as proxy:
            await until(lambda: any(line["event"] == "warmup" for line in proxy.lines), "it does not end")
            (line,) = [line for line in proxy.lines if line["event"] == "warmup"]
            assert (line["answered"], line["failed"]) == (0, 4)
            await proxy.ready()
