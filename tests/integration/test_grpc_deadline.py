"""What real gRPC clients see of calls that are open at the drain's deadline: a status, or a safe retry."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import grpc
import pytest

from tests.integration.test_grpc import PATH, served

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
DRAIN = {"propagation": "none", "drain_timeout": "300ms"}
PATIENCE_S = 60.0
"""A call that hangs fails by it, with DEADLINE_EXCEEDED."""
RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
CLIENTS = {
    "no retries at all": (("grpc.enable_retries", 0),),
    "as it comes": (),
    "a retry policy": (("grpc.service_config", json.dumps(RETRIES)),),
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_call_without_an_answer_is_unavailable_or_goes_elsewhere(client: str) -> None:
    """Where there is another pod, a client with a retry policy gets its answer from there. Others are told
    UNAVAILABLE: grpcio does not repeat a refused stream by itself."""
    async with AsyncExitStack() as stack:
        first, first_proxy, _ = await stack.enter_async_context(served(**DRAIN))
        second, second_proxy, _ = await stack.enter_async_context(served())
        second.release.set()
        targets = ",".join(f"127.0.0.1:{each.addresses[0][1]}" for each in (first_proxy, second_proxy))
        options = (("grpc.use_local_subchannel_pool", 1), *CLIENTS[client])
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(f"ipv4:{targets}", options=options)
        )
        call = channel.unary_unary(PATH + "Held")(b"held", timeout=PATIENCE_S)
        waiting = asyncio.ensure_future(first.entered.wait())
        await asyncio.wait(
            {waiting, asyncio.ensure_future(second.entered.wait())}, return_when="FIRST_COMPLETED"
        )
        assert waiting.done(), "the first address is tried first"
        first_proxy.signal()
        if client != "a retry policy":
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        else:
            assert await call == b"held"
            assert second.entered.is_set()
        assert await first_proxy.exit_code() == 0


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("read", ["false", "true"])
async def test_a_stream_with_an_answer_ends_with_a_status_and_is_not_repeated(client: str, read: str) -> None:
    """CANCELLED by a reset, UNAVAILABLE where requests are read; whatever the client's policy is."""
    async with served(**DRAIN, h2_inspect=read) as (echo, proxy, _):
        host, port = proxy.addresses[0]
        async with grpc.aio.insecure_channel(f"{host}:{port}", options=CLIENTS[client]) as channel:
            stream = channel.unary_stream(PATH + "Down")(b"d", timeout=PATIENCE_S)
            assert await stream.read() == b"first"
            proxy.signal()
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await stream.read()
            expected = grpc.StatusCode.UNAVAILABLE if read == "true" else grpc.StatusCode.CANCELLED
            assert failed.value.code() is expected
            assert await proxy.exit_code() == 0
            assert echo.streams == 1
