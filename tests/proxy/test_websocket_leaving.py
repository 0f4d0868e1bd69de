"""WebSockets as a real library speaks them: untouched until they are told to leave, and told politely."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from drainproxy.lifecycle import reconnect_spread
from drainproxy.lifecycle.propagation import PRESETS
from drainproxy.proxy.limits.routes import Route, Timeouts
from drainproxy.proxy.relay import upgraded
from tests.proxy.test_tunnel import outcomes
from tests.proxy.test_websocket import CLOSE, frame, message
from tests.support.house import House
from tests.support.upstream import Connection, Upstream
from tests.support.wire import PATIENCE_S, End, turns
from tests.support.words import get

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from websockets.asyncio.client import ClientConnection
    from websockets.asyncio.server import ServerConnection

    from tests.support.client import Client

QUICK = {"grace_period": 10.0, "leave_spread": 0.2}
LONG = {"grace_period": 30.0, "leave_spread": 0.2}
ASK = get(
    "/ws",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
AGREE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
ANSWER = frame(b"\x03\xe9", opcode=8, masked=True)


class Application:
    """A WebSocket server; remembers with which code each connection was closed."""

    def __init__(self, talk: Callable[[ServerConnection], Awaitable[None]]) -> None:
        self._talk = talk
        self.codes: list[int | None] = []

    async def handle(self, connection: ServerConnection) -> None:
        """Talk, then remember."""
        with contextlib.suppress(ConnectionClosed):
            await self._talk(connection)
        await connection.wait_closed()
        self.codes.append(connection.close_code)


@contextlib.asynccontextmanager
async def serving(
    talk: Callable[[ServerConnection], Awaitable[None]], **how: object
) -> AsyncIterator[tuple[House, Application]]:
    """A house in front of a server that talks like this."""
    application = Application(talk)
    async with serve(application.handle, "127.0.0.1", 0, max_size=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with House(f"http://127.0.0.1:{port}", **how) as house:
            yield house, application


def calling(house: House, **how: object) -> connect:
    """Connect through the house."""
    return connect(f"ws://127.0.0.1:{house.port}/ws", proxy=None, max_size=None, **how)


async def echo(connection: ServerConnection) -> None:
    """Send back what comes."""
    async for said in connection:
        await connection.send(said)


async def last(connection: ClientConnection) -> tuple[list[str | bytes], int | None]:
    """Return every message until the end, and the code of the Close."""
    messages = []
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                messages.append(await connection.recv())
    await connection.wait_closed()
    return messages, connection.close_code


async def raw(house: House, upstream: Upstream, **how: int) -> tuple[Client, Connection]:
    """Open a WebSocket whose ends are sockets."""
    client = await house.client(**how)
    await client.send(ASK)
    application = await upstream.connection()
    await application.read_request()
    await application.send(AGREE)
    await client.read_head()
    return client, application


async def test_everything_a_websocket_may_do_passes_untouched() -> None:
    """Compression, fragments, pings of both sides, messages of a mebibyte, text and bytes."""

    async def talk(connection: ServerConnection) -> None:
        await (await connection.ping(b"from the server"))
        await echo(connection)

    async with serving(talk) as (house, application), calling(house) as client:
        assert "PerMessageDeflate" in repr(client.protocol.extensions)
        noise = os.urandom(1 << 20)
        for said in ("", "hello", b"", noise, "x" * (1 << 20), b"\x88\x02\x03\xe9" * 100):
            await client.send(said)
            assert await client.recv() == said
        await client.send(["in ", "", "three", " parts"])
        assert await client.recv() == "in three parts"
        await (await client.ping(b"x" * 125))
        await client.close(4000, "done")
        await house.until(lambda: bool(application.codes))
    assert application.codes == [4000]
    assert house.requests()["GET", "101", "serving"] == 1


async def test_a_websocket_is_told_to_leave_between_two_messages() -> None:
    """Messages of three fragments come without a pause: the last one is whole, then 1001, and both know."""

    async def talk(connection: ServerConnection) -> None:
        noise = os.urandom(70000)
        while True:
            await connection.send([b"a" * 1000, noise, b"c"])
            await asyncio.sleep(0)

    async with serving(talk, lifecycle=QUICK) as (house, application), calling(house) as client:
        assert await client.recv()
        house.sigterm()
        messages, code = await last(client)
        assert {len(each) for each in messages} <= {71001}
        assert code == 1001
        await house.until(lambda: house.controller.report is not None)
    assert application.codes == [1001]
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_an_idle_websocket_is_told_with_the_code_that_was_chosen() -> None:
    """1012 for clients that come back sooner after it; the application hears the same."""
    how = {"websocket_close_code": 1012, "lifecycle": QUICK}
    async with serving(echo, **how) as (house, application), calling(house) as client:
        house.sigterm()
        assert await last(client) == ([], 1012)
        await house.until(lambda: house.controller.report is not None)
    assert application.codes == [1012]
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_a_message_that_has_begun_is_waited_for() -> None:
    """Its end comes seconds after the turn, and not a frame is added before it."""
    released = asyncio.Event()

    async def talk(connection: ServerConnection) -> None:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first "
            await released.wait()
            yield b"second"

        await connection.recv()
        await connection.send(parts())
        await connection.send("too late")
        await connection.recv()

    async with serving(talk, lifecycle=QUICK) as (house, application), calling(house) as client:
        await client.send("go")
        streaming = client.recv_streaming()
        assert await anext(streaming) == b"first "
        house.sigterm()
        await asyncio.sleep(0.5)
        released.set()
        assert [part async for part in streaming] == [b"second", b""]
        assert await last(client) == ([], 1001)
        await house.until(lambda: bool(application.codes))
    assert application.codes == [1001]


async def test_shortly_before_the_deadline_a_close_goes_between_fragments() -> None:
    """A message that never ends is given up for an orderly end."""

    async def talk(connection: ServerConnection) -> None:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                yield b"more "
                await asyncio.sleep(0.02)

        await connection.send(parts())

    lifecycle = {"grace_period": 6.0, "leave_spread": 0.0}
    async with serving(talk, lifecycle=lifecycle) as (house, application), calling(house) as client:
        streaming = client.recv_streaming()
        assert await anext(streaming) == b"more "
        house.sigterm()
        began = house.loop.time()
        with pytest.raises(ConnectionClosed):
            async for part in streaming:
                assert part == b"more "
        assert client.close_code == 1001
        assert house.loop.time() - began > 1.0
        await house.until(lambda: house.controller.report is not None)
    assert application.codes == [1002]  # which is how this library answers a Close in mid message
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_a_frame_that_never_ends_is_cut_at_the_deadline() -> None:
    """Nothing may stand inside a frame: both sides see a reset."""
    async with Upstream() as upstream, House(upstream, lifecycle={"grace_period": 2.5}) as house:
        client, application = await raw(house, upstream)
        await application.send(frame(b"x" * 100)[:50])
        await client.read_exactly(50)
        house.sigterm()
        rest, _ = await asyncio.gather(client.read_until_close(), application.read_until_close())
        assert (rest, client.end, application.end) == (b"", End.RESET, End.RESET)
    assert outcomes(house, "websocket") == {"cut": 1}


async def test_a_client_that_does_not_answer_a_close_is_left_after_two_seconds() -> None:
    """It got its Close and then an end; the application, which heard of neither, an end."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client, application = await raw(house, upstream)
        house.sigterm()
        assert await client.read_exactly(4) == CLOSE
        said = house.loop.time()
        await application.send(frame(b"dropped"))
        await client.send(frame(b"still ", masked=True))
        assert await application.read_exactly(12) == frame(b"still ", masked=True)
        assert await client.read_eof() is End.FIN
        assert house.loop.time() - said > 1.5
        await application.read_until_close()
    assert outcomes(house, "websocket") == {"cut": 1}


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_a_client_may_hang_up_with_its_answer(reset: bool) -> None:
    """The application still reads the Close, and closes by itself."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client, application = await raw(house, upstream)
        house.sigterm()
        assert await client.read_exactly(4) == CLOSE
        await client.send(ANSWER)
        client.reset() if reset else client.close()
        assert await application.read_exactly(len(ANSWER)) == ANSWER
        application.close()
        await house.until(lambda: not len(house.inflight))
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_what_lost_its_framing_runs_to_the_deadline() -> None:
    """Nobody can say where a Close would stand."""
    async with Upstream() as upstream, House(upstream, lifecycle={"grace_period": 2.5}) as house:
        client, application = await raw(house, upstream)
        await application.send(b"HELLO")
        assert await client.read_exactly(5) == b"HELLO"
        house.sigterm()
        data, _ = await asyncio.gather(client.read_until_close(), application.read_until_close())
        assert (data, client.end) == (b"", End.RESET)
    assert outcomes(house, "websocket") == {"cut": 1}


async def test_a_routes_own_drain_timeout_is_kept_politely() -> None:
    """Two seconds before it a WebSocket is told, though the cluster has not forgotten the pod."""
    how = {"routes": (Route(b"/ws", frozenset(), Timeouts(drain=2.5)),), "rules": PRESETS["cluster"][0]}
    async with serving(echo, **how) as (house, _), calling(house) as client:
        house.sigterm()
        assert await last(client) == ([], 1001)


async def test_who_comes_while_others_leave_is_told_as_it_comes() -> None:
    """Its upgrade was on its way when the drain began."""
    async with Upstream() as upstream, House(upstream, lifecycle=QUICK) as house:
        client = await house.client()
        await client.send(ASK)
        application = await upstream.connection()
        await application.read_request()
        house.sigterm()
        await application.send(AGREE + message([b"a", b"b"]))
        await client.read_head()
        assert await client.read_exactly(10) == message([b"a", b"b"]) + CLOSE
        await client.send(ANSWER)
        assert await application.read_exactly(len(ANSWER)) == ANSWER
        application.close()
        assert await client.read_eof() is End.FIN
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_an_old_connection_is_told_to_leave_too() -> None:
    """`max_connection_age` holds for WebSockets: they would stay for ever."""
    async with serving(echo, max_connection_age=0.3) as (house, application):
        async with calling(house) as client:
            assert await last(client) == ([], 1001)
        await house.until(lambda: bool(application.codes))
    assert application.codes == [1001]


# Applications that have stopped, and clients that say nothing.


@pytest.mark.parametrize("pinging", [False, True])
async def test_an_application_that_stops_between_two_fragments_is_waited_for_so_long(
    pinging: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a Close goes between them (RFC 6455 section 5.4), long before the deadline; pings do not count."""
    monkeypatch.setattr(reconnect_spread, "AGAIN_S", 0.3)
    async with Upstream() as upstream, House(upstream, lifecycle=LONG) as house:
        client, application = await raw(house, upstream)
        fragment, ping = frame(b"half ", opcode=1, final=False), frame(b"", opcode=9)
        await application.send(fragment)
        assert await client.read_exactly(len(fragment)) == fragment
        house.sigterm()
        await house.until(lambda: house.controller.published.phase == "draining")
        if pinging:
            await application.send(ping)
            assert await client.read_exactly(len(ping)) == ping
        assert await client.read_exactly(4) == CLOSE
        await client.send(ANSWER)
        assert await application.read_exactly(len(ANSWER)) == ANSWER
        application.close()
        assert await client.read_eof() is End.FIN
        await unused(house)
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_a_message_that_comes_on_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: only who stands still has stopped."""
    monkeypatch.setattr(reconnect_spread, "AGAIN_S", 0.5)
    async with Upstream() as upstream, House(upstream, lifecycle=LONG) as house:
        client, application = await raw(house, upstream)
        whole = message([b"one", b"two", b"three", b"four", b"five", b"six"])
        await application.send(whole[:3])
        assert await client.read_exactly(3) == whole[:3]
        house.sigterm()
        began = house.loop.time()
        for place in range(3, len(whole) - 1):
            await application.send(whole[place : place + 1])
            assert await client.read_exactly(1) == whole[place : place + 1]
            await asyncio.sleep(0.08)
        assert house.loop.time() - began > 3 * reconnect_spread.AGAIN_S
        await application.send(whole[-1:])
        assert await client.read_exactly(5) == whole[-1:] + CLOSE
        await client.send(ANSWER)
        application.close()
        assert await client.read_eof() is End.FIN
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_a_stall_of_ours_is_not_the_applications(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has said while our loop stood still is read before anybody says that it has stopped."""
    monkeypatch.setattr(reconnect_spread, "AGAIN_S", 0.3)
    async with Upstream() as upstream, House(upstream, lifecycle=LONG) as house:
        client, application = await raw(house, upstream)
        whole = message([b"one", b"two"])
        await application.send(whole[:3])
        assert await client.read_exactly(3) == whole[:3]
        house.sigterm()
        await house.until(lambda: house.controller.published.phase == "draining")
        await turns(10)
        await application.send(whole[3:4])
        time.sleep(2 * reconnect_spread.AGAIN_S)  # noqa: ASYNC251 - the loop stands still
        assert await client.read_exactly(1) == whole[3:4]
        await application.send(whole[4:])
        assert await client.read_exactly(len(whole)) == whole[4:] + CLOSE
        await client.send(ANSWER)
        application.close()
        assert await client.read_eof() is End.FIN
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_a_client_that_reads_slowly_has_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application is held back for it, and its message is still under way."""
    monkeypatch.setattr(reconnect_spread, "AGAIN_S", 0.5)
    how = {"lifecycle": LONG, "send_buffer": 4096}
    async with Upstream() as upstream, House(upstream, **how) as house:
        client, application = await raw(house, upstream, receive_buffer=4096)
        whole = frame(b"x" * 1_000_000)
        sending = asyncio.ensure_future(application.send(whole))
        got = await client.read_exactly(20_000)
        house.sigterm()
        began = house.loop.time()
        while house.loop.time() - began < 4 * reconnect_spread.AGAIN_S:
            got += await client.read_exactly(20_000)
            await asyncio.sleep(0.05)
        got += await client.read_exactly(len(whole) + 4 - len(got))
        assert got == whole + CLOSE
        await sending
        await client.send(ANSWER)
        application.close()
        await client.read_eof()
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_a_close_behind_a_message_is_given_the_time_to_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds for the answer begin when the client has taken what was said before, not earlier."""
    monkeypatch.setattr(upgraded, "LEAVE_MARGIN_S", 0.6)
    how = {"lifecycle": LONG, "send_buffer": 4096}
    async with Upstream() as upstream, House(upstream, **how) as house:
        client, application = await raw(house, upstream, receive_buffer=4096)
        whole = frame(b"x" * 60_000)
        await application.send(whole)
        house.sigterm()
        got = b""
        while len(got) < len(whole):
            got += await client.read_exactly(min(2000, len(whole) - len(got)))
            await asyncio.sleep(0.05)
        assert got == whole
        assert await client.read_exactly(4) == CLOSE
        await client.send(ANSWER)
        assert await application.read_exactly(len(ANSWER)) == ANSWER
        application.close()
        await client.read_eof()
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_an_application_that_stops_inside_a_frame_is_cut_long_before_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no place for a Close: both sides see a reset, and the drain goes on."""
    monkeypatch.setattr(reconnect_spread, "AGAIN_S", 0.3)
    async with Upstream() as upstream, House(upstream, lifecycle=LONG) as house:
        client, application = await raw(house, upstream)
        await application.send(frame(b"x" * 100)[:50])
        await client.read_exactly(50)
        house.sigterm()
        rest, _ = await asyncio.gather(client.read_until_close(), application.read_until_close())
        assert (rest, client.end, application.end) == (b"", End.RESET, End.RESET)
        await unused(house)
    assert outcomes(house, "websocket") == {"cut": 1}
    assert house.metrics.errors.value("leave-overdue") == 1


@pytest.mark.parametrize("who", ["client", "application"])
async def test_a_close_that_the_other_side_does_not_answer_holds_no_drain(
    who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said before the drain, by one of the two: nothing is left to tell them."""
    monkeypatch.setattr(reconnect_spread, "AGAIN_S", 0.3)
    async with Upstream() as upstream, House(upstream, lifecycle=LONG) as house:
        client, application = await raw(house, upstream)
        if who == "client":
            await client.send(ANSWER)
            assert await application.read_exactly(len(ANSWER)) == ANSWER
        else:
            await application.send(CLOSE)
            assert await client.read_exactly(4) == CLOSE
        house.sigterm()
        await asyncio.gather(client.read_until_close(), application.read_until_close())
        await unused(house)
    assert outcomes(house, "websocket") == {"cut": 1}


async def test_who_have_both_closed_and_hang_on_have_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither ends the connection under it; nothing is lost with that."""
    monkeypatch.setattr(reconnect_spread, "AGAIN_S", 0.3)
    async with Upstream() as upstream, House(upstream, lifecycle=LONG) as house:
        client, application = await raw(house, upstream)
        await client.send(ANSWER)
        await application.send(CLOSE)
        assert await client.read_exactly(4) == CLOSE
        assert await application.read_exactly(len(ANSWER)) == ANSWER
        house.sigterm()
        await asyncio.gather(client.read_until_close(), application.read_until_close())
        assert client.end is End.FIN
        await unused(house)
    assert outcomes(house, "websocket") == {"finished": 1}


# What the settings say.


@pytest.mark.parametrize(
    "how",
    [{"websockets": "finish"}, {"routes": (Route(b"/ws", frozenset(), Timeouts(websockets="finish")),)}],
    ids=["setting", "route"],
)
async def test_websockets_that_finish_run_until_shortly_before_the_deadline(
    how: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told nothing while others leave, and get their Close in the last two seconds."""
    monkeypatch.setattr(reconnect_spread, "AGAIN_S", 0.2)
    lifecycle = {"grace_period": 6.0, "leave_spread": 0.0}
    async with Upstream() as upstream, House(upstream, lifecycle=lifecycle, **how) as house:
        client, application = await raw(house, upstream)
        house.sigterm()
        await house.until(lambda: house.controller.published.phase == "draining")
        began = house.loop.time()
        while house.loop.time() - began < 1.0:
            await application.send(frame(b"more"))
            assert await client.read_exactly(6) == frame(b"more")
            await asyncio.sleep(0.05)
        assert await client.read_exactly(4) == CLOSE
        assert house.loop.time() >= house.controller.published.deadline - 2.0
        await client.send(ANSWER)
        assert await application.read_exactly(len(ANSWER)) == ANSWER
        application.close()
        assert await client.read_eof() is End.FIN
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_a_websocket_that_finishes_has_finished() -> None:
    """The drain waits for it, and ends with it."""
    async with serving(echo, websockets="finish", lifecycle=LONG) as (house, application):
        async with calling(house) as client:
            house.sigterm()
            await house.until(lambda: house.controller.published.phase == "draining")
            await client.send("still there")
            assert await client.recv() == "still there"
        await unused(house)
    assert application.codes == [1000]
    assert outcomes(house, "websocket") == {"finished": 1}


async def test_a_route_says_better_than_the_setting_who_leaves() -> None:
    """`leave` there is told to leave, though all others finish."""
    how = {"websockets": "finish", "routes": (Route(b"/ws", frozenset(), Timeouts(websockets="leave")),)}
    async with serving(echo, lifecycle=QUICK, **how) as (house, application), calling(house) as client:
        house.sigterm()
        assert await last(client) == ([], 1001)
        await unused(house)
    assert application.codes == [1001]
    assert outcomes(house, "websocket") == {"told_to_leave": 1}


async def test_a_websocket_that_finishes_is_not_too_old() -> None:
    """`max_connection_age` closes a connection after what is under way on it, and that is all of this one."""
    how = {"websockets": "finish", "max_connection_age": 0.1}
    async with serving(echo, **how) as (house, _), calling(house) as client:
        await asyncio.sleep(0.3)
        await client.send("still there")
        assert await client.recv() == "still there"


async def unused(house: House) -> None:
    """Wait for the end of a drain, which has come long before its deadline."""
    await house.until(lambda: house.controller.report is not None)
    assert house.controller.report.unused_s > 5
