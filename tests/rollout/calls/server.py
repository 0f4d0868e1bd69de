"""The application of the gRPC rollouts: plain grpcio, which ends as its own documentation shows it.

It knows nothing of drainproxy. At SIGTERM it takes no new call and lets those that run finish. Started as a
script: address, port.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import grpc

PATH = "/rollout.Shop/"
PIECES, EVERY_S = 50, 0.1
"""A stream of five seconds."""
GRACE_S = 15.0
"""Longer than any call."""


async def unary(request: bytes, _: grpc.aio.ServicerContext) -> bytes:
    """Answer at once."""
    return request


async def stream(request: bytes, _: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    """Five seconds of messages."""
    for number in range(PIECES):
        yield b"%b %d" % (request, number)
        await asyncio.sleep(EVERY_S)


async def talk(requests: AsyncIterator[bytes], _: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    """Echo each message."""
    async for request in requests:
        yield request


class Shop(grpc.GenericRpcHandler):
    """On plain bytes: nothing here is about protobuf."""

    kinds = {  # noqa: RUF012 - it is never written
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
    }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """See grpc."""
        return self.kinds[details.method.removeprefix(PATH)]


async def serve(address: str) -> None:
    """Until SIGTERM, and until the last call is over."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Shop(),))
    server.add_insecure_port(address)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await server.start()
    await told.wait()
    await server.stop(GRACE_S)


if __name__ == "__main__":
    asyncio.run(serve(f"{sys.argv[1]}:{sys.argv[2]}"))
