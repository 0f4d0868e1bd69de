"""The event loop belongs to nobody for long: what one read holds is handled in many turns, and in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from drainproxy import certificates
from drainproxy.certificates import Certificates, Files
from drainproxy.proxy.http2 import frames
from drainproxy.proxy.http2.frame_reader import FrameReader
from drainproxy.proxy.message.framing import ChunkedBody
from drainproxy.proxy.message.websocket import Conversation
from drainproxy.proxy.preamble import Preamble
from drainproxy.proxy.wire.run_queue import LARGE_READ_BYTES, READ_BUDGET, READERS_A_TURN, RunQueue
from tests.proxy.http2.test_connection import asked
from tests.proxy.test_tunnel import tunnel
from tests.support.house import House
from tests.support.http2 import DATA, END_HEADERS, HEADERS, SETTINGS, Http2, frame
from tests.support.upstream import Connection, Upstream
from tests.support.wire import PATIENCE_S, End, turns
from tests.support.words import GET, OK, get

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.authority import Authority
    from tests.support.client import Client

ITEMS = 40_000
"""A fifth of what one read may hold."""
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
EVENTS = CHUNKS.replace(b"Transfer", b"Content-Type: text/event-stream\r\nTransfer")
ASK = get("/talk", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
AGREE = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
OURS, THEIRS = b"\x82\x80mask", b"\x82\x00"
"""The smallest frames there are: a client's, and a server's."""
LAST_OURS, LAST_THEIRS = b"\x82\x83mask\x08\x0f\x17", b"\x82\x03end"


# The queue.


async def test_those_who_wait_go_on_in_order_so_many_in_a_turn() -> None:
    """However many they are, the loop turns in between."""
    queue, went = RunQueue(asyncio.get_running_loop()), []
    for number in range(2 * READERS_A_TURN + 1):
        queue.add(lambda number=number: went.append(number))
    assert went == []
    for turn in range(1, 4):
        await asyncio.sleep(0)
        assert went == list(range(min(turn * READERS_A_TURN, 2 * READERS_A_TURN + 1)))


async def test_the_first_of_a_turn_need_not_wait_and_the_others_have_theirs_in_order() -> None:
    """As when the kernel tells of a thousand ends at once."""
    queue, went = RunQueue(asyncio.get_running_loop()), []
    for number in range(2 * READERS_A_TURN + 1):
        queue.in_turn(lambda number=number: went.append(number))
    assert went == list(range(READERS_A_TURN))
    await asyncio.sleep(0)
    assert went == list(range(2 * READERS_A_TURN))
    queue.in_turn(lambda: went.append("late"))
    assert went == list(range(2 * READERS_A_TURN))
    await asyncio.sleep(0)
    assert went == [*range(2 * READERS_A_TURN + 1), "late"]
    queue.in_turn(lambda: went.append("at once"))
    assert went[-1] == "at once"


async def test_who_waits_again_goes_behind_the_others() -> None:
    """And not in the same turn."""
    queue, went = RunQueue(asyncio.get_running_loop()), []

    def again(name: str, times: int) -> None:
        went.append(name)
        if times:
            queue.add(lambda: again(name, times - 1))

    queue.add(lambda: again("a", 2))
    queue.add(lambda: again("b", 1))
    await asyncio.sleep(0)
    assert went == ["a", "b"]
    await turns(2)
    assert went == ["a", "b", "a", "b", "a"]


async def test_who_fails_holds_nobody_up() -> None:
    """The loop tells of it."""
    loop, went, seen = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda _, context: seen.append(context["exception"]))
    queue = RunQueue(loop)
    queue.add(lambda: 1 / 0)
    queue.add(lambda: went.append("b"))
    await turns(3)
    loop.set_exception_handler(None)
    assert went == ["b"]
    assert [type(failure) for failure in seen] == [ZeroDivisionError]


# The readers.


def in_pieces(feed: Callable[[bytes], bytes], data: bytes, backlog: Callable[[], int]) -> list[bytes]:
    """Return what a reader gives out, call by call, of one read."""
    given = [feed(data)]
    while backlog():
        given.append(feed(b""))
    return given


@pytest.mark.parametrize(
    ("chunk", "payload", "most"),
    [
        (b"1\r\na\r\n", b"a", READ_BUDGET),
        (b"1;x\r\na\r\n", b"a", READ_BUDGET),
        (b"1" + b";x" * 1000 + b"\r\na\r\n", b"a", READ_BUDGET // 50),
    ],
)
def test_of_chunks_so_many_are_read_at_a_time(chunk: bytes, payload: bytes, most: int) -> None:
    """A line costs by its length; the payload is the same, and what follows is left alone."""
    body = ChunkedBody()
    count, rest = 3000, None

    def feed(data: bytes) -> bytes:
        nonlocal rest
        given, rest = body.feed(data)
        return given

    given = in_pieces(feed, chunk * count + b"0\r\n\r\nGET", lambda: body.backlog)
    assert b"".join(given) == payload * count
    assert rest == b"GET"
    assert max(map(len, given)) <= most
    assert body.trailers == []


@pytest.mark.parametrize("side", ["client", "server"])
def test_of_websocket_frames_so_many_are_followed_at_a_time(side: str) -> None:
    """Bytes pass as they are."""
    talk = Conversation(1001)
    feed, item, index = (talk.from_client, OURS, 0) if side == "client" else (talk.from_server, THEIRS, 1)
    given = in_pieces(feed, item * 3000, lambda: talk.backlogs[index])
    assert b"".join(given) == item * 3000
    assert max(map(len, given)) <= READ_BUDGET * len(item)


def test_a_close_goes_where_it_belongs_in_the_middle_of_a_backlog() -> None:
    """What waits behind it is dropped, like everything that the server says after a Close of ours."""
    talk = Conversation(1001)
    first = talk.from_server(THEIRS * 1000)
    assert first == THEIRS * READ_BUDGET
    assert talk.leave(hurry=False) == b"\x88\x02\x03\xe9"
    assert talk.from_server(b"") == b""
    assert talk.backlogs == (0, 0)


def test_of_http2_frames_so_many_are_read_at_a_time() -> None:
    """The last may be half a frame."""
    half = FrameReader(lambda *_: None)
    one = frames.frame(frames.DATA, 0, 1, b"a")
    data = frames.settings([]) + one * 3000
    given = in_pieces(half.feed, data + one[:5], lambda: half.backlog)
    assert b"".join(given) == data
    assert max(map(len, given)) <= READ_BUDGET * len(one)
    assert half.feed(one[5:]) == one


# Connections. In each read are many more items than a turn handles.


class Turning:
    """How often the loop turns, and how often others are answered meanwhile."""

    def __init__(self, other: Client, upstream: Upstream) -> None:
        self._other = other
        self.count = 0
        self.answers = 0

    def _turn(self) -> None:
        self.count += 1
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    async def until(self, work: Awaitable[bytes]) -> bytes:
        """Return what `work` returns; somebody else asks again and again until then."""
        self._turn()
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                assert (await self._other.ask(GET)).body == b"ok"
                self.answers += 1
        finally:
            self._handle.cancel()
        return await task

    def was_fair(self, items: int = ITEMS) -> None:
        """The loop has turned for each budget's worth, and others were answered all along."""
        assert self.count >= items // READ_BUDGET
        assert self.answers >= items // READ_BUDGET // 20


async def other(house: House, upstream: Upstream) -> Turning:
    """A client beside the hog, with a connection of the application's own."""
    client = await house.client()
    await client.send(GET)
    application = await upstream.connection()

    async def serve() -> None:
        while (await application.read_request()).start:
            await application.send(OK)

    upstream._spawn(serve())
    assert (await client.final()).body == b"ok"
    return Turning(client, upstream)


async def begun(client: Client, upstream: Upstream, request: bytes) -> Connection:
    """Send the beginning of a request; return the application's end, of which nothing is read."""
    await client.send(request)
    return await upstream.connection_with_bytes()


def quietly(sending: Awaitable[None]) -> asyncio.Future[None]:
    """Send beside what the test does."""
    return asyncio.ensure_future(sending)


@pytest.mark.parametrize("item", [b"1\r\na\r\n", b"1;x=y\r\na\r\n"])
async def test_chunks_of_a_byte_leave_others_their_turn(item: bytes) -> None:
    """Every byte of the body arrives, and what was pipelined behind it is the next request."""
    async with Upstream() as upstream, House(upstream, upstream_idle=60.0) as house:
        client = await house.client()
        application = await begun(client, upstream, CHUNKED)
        turning = await other(house, upstream)
        sending = quietly(client.send(item * ITEMS + b"0\r\n\r\n" + get("/next")))

        async def body() -> bytes:
            return (await application.read_request()).body

        assert await turning.until(body()) == b"a" * ITEMS
        turning.was_fair()
        await sending
        await application.send(OK)
        assert (await client.final()).body == b"ok"
        assert (await application.read_request()).start == b"GET /next HTTP/1.1"
        await application.send(OK)
        assert (await client.final()).body == b"ok"
        assert not house.buffers.held_bytes


@pytest.mark.parametrize(("head", "item"), [(CHUNKS, b"1\r\na\r\n"), (EVENTS, b"2\r\n\n\n\r\n")])
async def test_chunks_and_events_of_an_answer_leave_others_their_turn(head: bytes, item: bytes) -> None:
    """Every byte of the answer arrives."""
    async with Upstream() as upstream, House(upstream, upstream_idle=60.0) as house:
        client = await house.client()
        application = await begun(client, upstream, get("/hog"))
        turning = await other(house, upstream)
        sending = quietly(application.send(head + item * ITEMS + b"0\r\n\r\n"))

        async def body() -> bytes:
            return (await client.final()).body

        assert await turning.until(body()) == item[3:-2] * ITEMS
        turning.was_fair()
        await sending
        assert not house.buffers.held_bytes


@pytest.mark.parametrize("speaker", ["client", "application"])
async def test_tiny_websocket_frames_leave_others_their_turn(speaker: str) -> None:
    """Every frame arrives; a half-close of the speaker's comes behind the last of them."""
    async with Upstream() as upstream, House(upstream, upstream_idle=60.0) as house:
        client = await house.client()
        application = await begun(client, upstream, ASK)
        await application.send(AGREE)
        await client.read_head()
        await application.read_head()
        turning = await other(house, upstream)
        ours = speaker == "client"
        says, hears = (client, application) if ours else (application, client)
        item, last = (OURS, LAST_OURS) if ours else (THEIRS, LAST_THEIRS)
        sending = quietly(says.send(item * ITEMS + last))
        sending.add_done_callback(lambda _: says.half_close())
        assert await turning.until(hears.read_until_close()) == item * ITEMS + last
        turning.was_fair()
        await sending
        assert hears.end is End.FIN
        hears.close()
        await house.until(lambda: len(house.registry.clients) == 1)
        assert not house.buffers.held_bytes


@pytest.mark.parametrize("speaker", ["client", "application"])
async def test_tiny_http2_frames_leave_others_their_turn(speaker: str) -> None:
    """Every frame arrives."""
    async with Upstream() as upstream, House(upstream, upstream_idle=60.0) as house:
        client = Http2(await house.client())
        await client.introduce()
        application = Http2(await upstream.connection_with_bytes())
        await application.greet()
        await client.next(SETTINGS)
        await asked(client, application, 1, end=False)
        turning = await other(house, upstream)
        says, hears = (client, application) if speaker == "client" else (application, client)
        item, last = frame(DATA, 0, 1, b"a"), frame(DATA, 0, 1, b"end")
        if speaker == "application":
            await application.send(frame(HEADERS, END_HEADERS, 1, b"\x88"))
            await client.next(HEADERS)
        sending = quietly(says.wire.send(item * ITEMS + last))
        assert await turning.until(hears.wire.read_to(last)) == item * ITEMS + last
        turning.was_fair()
        await sending
        assert not house.buffers.held_bytes


async def test_tls_records_of_a_byte_leave_others_their_turn(authority: Authority) -> None:
    """Every byte arrives, and the close_notify in the same read comes behind them."""
    certificate, key = authority.issue()
    files = Files(certificate=str(certificate), key=str(key), authorities=str(authority.file))
    preamble = Preamble(Certificates(files, certificates.for_clients))
    count = 10_000
    async with (
        Upstream() as upstream,
        House(upstream, preamble=preamble, upstream_idle=60.0, allow_half_close=True) as house,
    ):
        client = await house.client(tls=authority.trusted())
        application = await begun(client, upstream, POST % count)
        session = client.session
        assert session is not None
        for _ in range(count):
            session.tls.write(b"a")
        turning = Turning(client, upstream)
        turning._turn()
        sending = quietly(client._send(session.to_send() + session.say_bye()))
        request = await application.read_request()
        turning._handle.cancel()
        assert request.body == b"a" * count
        assert turning.count >= count // READ_BUDGET
        await sending
        await application.send(OK)
        assert (await client.final()).body == b"ok"


async def test_a_large_read_is_the_last_of_its_turn() -> None:
    """uvloop would read thirty-two times; nothing waits, and every byte arrives."""
    async with Upstream() as upstream, House(upstream, upstream_idle=60.0) as house:
        client = await house.client()
        size = 32 * 1024 * 1024
        application = await begun(client, upstream, POST % size)
        await application.read_head()
        turning = await other(house, upstream)
        piece = bytes(range(256)) * 4096
        sending = quietly(client.send(piece * (size // len(piece))))

        async def body() -> bytes:
            return await application.read_exactly(size)

        assert await turning.until(body()) == piece * (size // len(piece))
        await sending
        assert turning.count >= size // (2 * LARGE_READ_BYTES)
        await application.send(OK)
        assert (await client.final()).body == b"ok"


@pytest.mark.parametrize("speaker", ["client", "application"])
async def test_a_large_read_of_a_tunnel_is_the_last_of_its_turn(speaker: str) -> None:
    """Whichever side it comes from; what was read passes at once."""
    async with Upstream() as upstream, House(upstream) as house:
        client, application = await tunnel(house, upstream)
        (inner,), (outer,) = house.pool._open, house.registry.clients
        source, hears = (outer, application) if speaker == "client" else (inner, client)
        source.data_received(b"x" * LARGE_READ_BYTES)
        assert not source.transport.is_reading()
        assert await hears.read_exactly(LARGE_READ_BYTES) == b"x" * LARGE_READ_BYTES
        await house.until(source.transport.is_reading)
        client.reset()


async def test_what_the_application_said_comes_before_its_reset() -> None:
    """It answers early, in tiny chunks, and hangs up on the rest of the request."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        application = await begun(client, upstream, POST % 99_999_999)
        sending = quietly(client.send(bytes(8_000_000)))
        count = 20 * READ_BUDGET
        await application.send(CHUNKS + b"1\r\na\r\n" * count + b"0\r\n\r\n")
        application.close()
        answer = await client.final()
        assert answer.body == b"a" * count
        sending.cancel()


async def test_a_client_that_leaves_takes_its_backlog_along() -> None:
    """Nothing is held for it, and nothing goes on."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        application = await begun(client, upstream, CHUNKED)
        sending = quietly(client.send(b"1\r\na\r\n" * ITEMS))
        await house.until(lambda: any(each.yielding for each in house.registry.clients))
        assert house.buffers.held_bytes
        sending.cancel()
        await asyncio.wait([sending], timeout=PATIENCE_S)
        client.reset()
        await application.read_until_close()
        await house.until(lambda: not house.buffers.held_bytes)


async def test_a_drain_cuts_at_its_deadline_in_the_middle_of_all_that() -> None:
    """Timers have their turn too."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        application = await begun(client, upstream, CHUNKED)
        sending = quietly(client.send(b"1\r\na\r\n" * ITEMS * 10))
        reading = quietly(application.read_until_close())
        await house.until(lambda: any(each.yielding for each in house.registry.clients))
        house.sigterm()
        for work in list(house.inflight):
            work.cut("deadline")
        assert (await client.final()).status == 503
        sending.cancel()
        await reading
