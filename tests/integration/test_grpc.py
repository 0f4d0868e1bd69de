"""gRPC through a real process: real clients and servers of the grpcio library, and a rollout under them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.client import Client
from tests.support.http2 import PREFACE
from tests.support.process import Proxy
from tests.support.upstream import Upstream
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.upstream import Connection
    from tests.support.wire import Wire

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PATH = "/test.Echo/"


class Echo(grpc.GenericRpcHandler):
    """Four kinds of calls on plain bytes. `held` calls wait for `release`."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.calls = self.streams = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """See grpc."""
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler(self._unary),
            "Held": grpc.unary_unary_rpc_method_handler(self._held),
            "Down": grpc.unary_stream_rpc_method_handler(self._down),
            "Both": grpc.stream_stream_rpc_method_handler(self._both),
        }
        return kinds[details.method.removeprefix(PATH)]

    async def _unary(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.calls += 1
        await context.send_initial_metadata((("seen", dict(context.invocation_metadata()).get("mark", "")),))
        context.set_trailing_metadata((("end", "yes"),))
        return request

    async def _held(self, request: bytes, _: grpc.aio.ServicerContext) -> bytes:
        self.entered.set()
        await self.release.wait()
        return request

    async def _down(self, request: bytes, _: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        self.streams += 1
        yield b"first"
        self.entered.set()
        await self.release.wait()
        for _number in range(100):
            yield request

    async def _both(
        self, requests: AsyncIterator[bytes], _: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request


@contextlib.asynccontextmanager
async def served(**settings: str) -> AsyncIterator[tuple[Echo, Proxy, grpc.aio.Channel]]:
    """A gRPC server, a proxy before it, and a client's channel."""
    echo = Echo()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((echo,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with Proxy(upstreams=[f"http://127.0.0.1:{port}"], **settings) as proxy:
            await proxy.ready()
            host, listening = proxy.addresses[0]
            async with grpc.aio.insecure_channel(f"{host}:{listening}") as channel:
                yield echo, proxy, channel
    finally:
        await server.stop(0)


async def test_every_kind_of_call_passes() -> None:
    """Unary with metadata and trailers, server streams, bidirectional ones, a megabyte, compression."""
    async with served() as (echo, _, channel):
        call = channel.unary_unary(PATH + "Unary")(b"x" * 1_000_000, metadata=(("mark", "me"),))
        assert await call == b"x" * 1_000_000
        assert ("seen", "me") in tuple(await call.initial_metadata())
        assert ("end", "yes") in tuple(await call.trailing_metadata())
        zipped = channel.unary_unary(PATH + "Unary")(b"z" * 5000, compression=grpc.Compression.Gzip)
        assert await zipped == b"z" * 5000
        echo.release.set()
        assert [each async for each in channel.unary_stream(PATH + "Down")(b"d")] == [b"first", *[b"d"] * 100]

        async def three() -> AsyncIterator[bytes]:
            for each in (b"1", b"2", b"3"):
                yield each

        assert [each async for each in channel.stream_stream(PATH + "Both")(three())] == [b"1", b"2", b"3"]


async def test_calls_in_flight_at_sigterm_finish_and_new_ones_go_elsewhere() -> None:
    """The client sees no error; its channel is told to leave, and the process ends when the calls have."""
    async with served(propagation="none") as (echo, proxy, channel):
        held = channel.unary_unary(PATH + "Held")(b"held")
        stream = channel.unary_stream(PATH + "Down")(b"d")
        assert await stream.read() == b"first"
        await echo.entered.wait()
        proxy.signal()
        await proxy.line("phase", phase="draining")
        echo.release.set()
        assert await held == b"held"
        assert [await stream.read() for _ in range(101)] == [*[b"d"] * 100, grpc.aio.EOF]
        assert await proxy.exit_code() == 0
        report = await proxy.line("drain_report")
        assert report["requests"]["finished"] == 2
        assert report["requests"]["lost"] == report["requests"]["cut"] == 0


async def test_channels_made_during_a_drain_are_served() -> None:
    """Each is told to leave with its first call, which succeeds; the next one connects anew."""
    async with served(propagation="cluster", propagation_min="10s", drain_timeout="10s") as (echo, proxy, _):
        proxy.signal()
        await proxy.line("phase", phase="propagating")
        host, port = proxy.addresses[0]
        for number in range(3):
            options = (("grpc.use_local_subchannel_pool", 1),)
            async with grpc.aio.insecure_channel(f"{host}:{port}", options=options) as channel:
                for _ in range(3):
                    assert await channel.unary_unary(PATH + "Unary")(b"%d" % number) == b"%d" % number
        assert echo.calls == 9


async def test_a_call_at_the_deadline_ends_and_does_not_hang() -> None:
    """One without an answer is UNAVAILABLE, which gRPC may try again; one with an answer is CANCELLED."""
    async with served(propagation="none", drain_timeout="300ms") as (echo, proxy, channel):
        held = channel.unary_unary(PATH + "Held")(b"held")
        stream = channel.unary_stream(PATH + "Down")(b"d")
        assert await stream.read() == b"first"
        await echo.entered.wait()
        proxy.signal()
        with pytest.raises(grpc.aio.AioRpcError) as unanswered:
            await held
        assert unanswered.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError) as answered:
            await stream.read()
        assert answered.value.code() is grpc.StatusCode.CANCELLED
        assert await proxy.exit_code() == 0


async def test_a_call_that_was_read_ends_with_a_status_of_grpc() -> None:
    """With `h2_inspect`, one with an answer is UNAVAILABLE too."""
    settings = {"propagation": "none", "drain_timeout": "300ms", "h2_inspect": "true"}
    async with served(**settings) as (_, proxy, channel):
        stream = channel.unary_stream(PATH + "Down")(b"d")
        assert await stream.read() == b"first"
        proxy.signal()
        with pytest.raises(grpc.aio.AioRpcError) as answered:
            await stream.read()
        assert answered.value.code() is grpc.StatusCode.UNAVAILABLE
        assert answered.value.details() == "the server is draining"
        assert await proxy.exit_code() == 0


async def test_a_channel_that_cancels_most_of_its_calls_is_kept() -> None:
    """Four of five, far above the limit for resets alone: the others show that it is no flood."""
    async with served(h2_max_resets="5") as (echo, proxy, channel):
        for _ in range(10):
            held = [channel.unary_unary(PATH + "Held")(b"x") for _ in range(32)]
            answers = await asyncio.gather(*(channel.unary_unary(PATH + "Unary")(b"x") for _ in range(8)))
            assert answers == [b"x"] * 8
            await echo.entered.wait()
            for call in held:
                call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await held[-1]
        assert await channel.unary_unary(PATH + "Unary")(b"x") == b"x"
        counts = await proxy.metrics()
        assert counts['h2_streams_total{outcome="reset"}'] > 200
        assert counts["client_connections_accepted_total"] == 1


async def test_a_call_succeeds_though_the_application_hangs_up_on_its_first_connection() -> None:
    """Killed before its SETTINGS, and back at once: GOAWAY says that the call was not taken."""
    server, met = grpc.aio.server(), asyncio.Event()
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def front(connection: Connection) -> None:
        preface = await connection.read_exactly(len(PREFACE))
        if not met.is_set():
            met.set()
            connection.reset()
            return
        behind = await Client.connect(("127.0.0.1", port))
        await behind.send(preface)
        await asyncio.gather(_pump(connection, behind), _pump(behind, connection))

    try:
        async with Upstream(front) as upstream, Proxy(upstreams=[upstream.address]) as proxy:
            await proxy.ready()
            host, listening = proxy.addresses[0]
            async with grpc.aio.insecure_channel(f"{host}:{listening}") as channel:
                assert await channel.unary_unary(PATH + "Unary")(b"x") == b"x"
            assert met.is_set()
    finally:
        await server.stop(0)


async def _pump(source: Wire, sink: Wire) -> None:
    while await source.more():
        await sink.send(source.take(len(source.received)))
    sink.close()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_calls_on_new_channels_are_answered_while_callers_still_come(loop: str) -> None:
    """Each channel's first call. A connection that is told to leave before it has taken that one costs a
    client of grpcio a second, and now and then the call: it waits until its deadline."""
    async with served(loop=loop, propagation_min="1m", propagation_max="1m", grace_period="90s") as (
        echo,
        proxy,
        _,
    ):
        proxy.signal()
        await proxy.line("phase", phase="propagating")
        host, port = proxy.addresses[0]
        options = (("grpc.use_local_subchannel_pool", 1),)

        async def calling() -> None:
            for _ in range(20):
                async with grpc.aio.insecure_channel(f"{host}:{port}", options=options) as channel:
                    assert await channel.unary_unary(PATH + "Unary")(b"x", timeout=PATIENCE_S) == b"x"

        async with asyncio.TaskGroup() as callers:
            for _ in range(16):
                callers.create_task(calling())
        assert echo.calls == 320
        assert (await proxy.metrics())['h2_goaway_total{reason="drain"}'] >= 320


@pytest.mark.slow
async def test_a_rollout_under_load_fails_no_call() -> None:
    """Many unary calls over several channels while one proxy drains and another takes over."""
    async with (
        served(
            propagation="cluster", propagation_min="1s", propagation_quiet="500ms", sparse_min="1s"
        ) as first,
        served() as second,
    ):
        targets = ",".join(f"127.0.0.1:{each[1].addresses[0][1]}" for each in (first, second))
        done = failed = 0
        ending = asyncio.Event()

        async def calling() -> None:
            nonlocal done, failed
            options = (("grpc.use_local_subchannel_pool", 1),)
            async with grpc.aio.insecure_channel(f"ipv4:{targets}", options=options) as channel:
                call = channel.unary_unary(PATH + "Unary")
                while not ending.is_set():
                    try:
                        assert await call(b"x") == b"x"
                        done += 1
                    except grpc.aio.AioRpcError:
                        failed += 1

        async with asyncio.TaskGroup() as callers:
            for _ in range(8):
                callers.create_task(calling())
            while done < 2000:
                await asyncio.sleep(0.01)
            first[1].signal()
            assert await first[1].exit_code() == 0
            while done < 3000:
                await asyncio.sleep(0.01)
            ending.set()
        assert failed == 0
        assert second[0].calls > 0
