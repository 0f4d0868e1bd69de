"""The pool: which connection is lent, how long one may idle, what ends it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from drainproxy.addresses import UpstreamAddress
from drainproxy.errors import ConnectTimeout, UpstreamRefused
from drainproxy.metrics import Metrics
from drainproxy.proxy.http1.reuse import keep_for
from drainproxy.proxy.settings import ProxySettings
from drainproxy.proxy.upstream.pool import MAX_IDLE, UNSAFE_IDLE_S, Pool
from drainproxy.proxy.upstream.probe import Answer, ask
from drainproxy.proxy.wire.buffers import Buffers
from drainproxy.proxy.wire.write_batch import WriteBatch
from tests.support.clock import in_fake_time
from tests.support.house import House
from tests.support.upstream import Upstream
from tests.support.wire import turns
from tests.support.words import GET, OK, ok

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from drainproxy.proxy.upstream.connection import UpstreamConnection


class Borrowing:
    """An exchange that only remembers what it was told."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: bool | None = None

    def upstream_data(self, data: bytes) -> None:
        """See Borrower."""
        self.data += data

    def upstream_eof(self) -> None:
        """See Borrower."""

    def upstream_lost(self, *, reset: bool) -> None:
        """See Borrower."""
        self.lost = reset

    def upstream_writable(self, *, writable: bool) -> None:
        """See Borrower."""


class Well:
    """A pool and the application it leads to."""

    def __init__(self, upstream: Upstream, **settings: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.upstream = upstream
        self.metrics = Metrics()
        address = UpstreamAddress("127.0.0.1", upstream.port)
        buffers = Buffers(1 << 28, WriteBatch(self.loop, print), self.loop)
        self.pool = Pool(address, ProxySettings(**settings), self.metrics, self.loop, buffers)

    async def open(self, count: int = 1) -> list[UpstreamConnection]:
        """Connect so many times."""
        return [await self.pool.connect(self.loop.time() + 5) for _ in range(count)]

    async def idle(self, count: int = 1, keep_s: float = 4.0) -> list[UpstreamConnection]:
        """Have so many idle connections, the last one idle most recently."""
        opened = await self.open(count)
        for connection in opened:
            self.pool.give_back(connection, keep_s)
        return opened


@contextlib.asynccontextmanager
async def well(**settings: float) -> AsyncIterator[Well]:
    """A pool over an application that accepts."""
    async with Upstream() as upstream:
        made = Well(upstream, **settings)
        yield made
        made.pool.stop()
        for connection in list(made.pool._open):
            made.pool.discard(connection)
        await turns(5)
        assert not made.pool._open


@in_fake_time
async def test_the_most_recently_used_is_lent_first() -> None:
    """The longest idle may run out; the pool shrinks to what is needed."""
    async with well() as here:
        first, second, third = await here.idle(3)
        assert [here.pool.take(repeatable=True) for _ in range(4)] == [third, second, first, None]


@in_fake_time
async def test_a_lent_connection_is_nobody_elses() -> None:
    """One exchange at a time."""
    async with well() as here:
        (connection,) = await here.idle()
        assert here.pool.take(repeatable=True) is connection
        assert here.pool.take(repeatable=True) is None
        assert (here.pool.idle_count, here.pool.active_count) == (0, 1)


@in_fake_time
async def test_what_idles_too_long_is_closed() -> None:
    """By us, before the application does it."""
    async with well() as here:
        await here.idle(3, keep_s=4)
        await asyncio.sleep(3.9)
        assert here.pool.idle_count == 3
        await asyncio.sleep(0.2)
        assert here.pool.idle_count == 0
        ends = [await (await here.upstream.connection()).read_until_close() for _ in range(3)]
        assert ends == [b"", b"", b""]


@in_fake_time
async def test_each_has_its_own_time() -> None:
    """The one that announced less goes first."""
    async with well() as here:
        for connection, keep_s in zip(await here.open(3), (3, 1, 2), strict=True):
            here.pool.give_back(connection, keep_s)
        for left in (2, 1, 0):
            await asyncio.sleep(1.001)
            assert here.pool.idle_count == left


@in_fake_time
async def test_a_repeatable_request_takes_one_that_idled_long() -> None:
    """It could be sent again."""
    async with well() as here:
        (connection,) = await here.idle()
        await asyncio.sleep(3.9)
        assert here.pool.take(repeatable=True) is connection
        assert connection.reused


@in_fake_time
async def test_another_takes_only_a_young_one() -> None:
    """An older one makes way for the new one: some applications serve one connection at a time."""
    async with well() as here:
        (connection,) = await here.idle()
        await asyncio.sleep(UNSAFE_IDLE_S - 0.01)
        assert here.pool.take(repeatable=False) is connection
        here.pool.give_back(connection, 4.0)
        await asyncio.sleep(UNSAFE_IDLE_S + 0.01)
        assert here.pool.take(repeatable=False) is None
        await turns(3)
        assert (here.pool.idle_count, here.pool.open_count) == (0, 0)


@in_fake_time
async def test_who_closed_a_young_one_is_distrusted_for_a_minute() -> None:
    """It may do so again: so long only what can be sent twice takes one that was used."""
    async with well() as here:
        here.pool.distrust()
        await asyncio.sleep(59.9)
        (connection,) = await here.idle()
        assert here.pool.take(repeatable=True) is connection
        here.pool.give_back(connection, 4.0)
        assert here.pool.take(repeatable=False) is None
        await asyncio.sleep(0.2)
        (connection,) = await here.idle()
        assert here.pool.take(repeatable=False) is connection


@pytest.mark.parametrize("what", ["fin", "reset", "bytes"])
async def test_another_takes_none_that_the_kernel_knows_to_be_closed(what: str) -> None:
    """A close, or stray bytes, of which the loop has not been told yet."""
    async with well() as here:
        await here.idle()
        application = await here.upstream.connection()
        if what == "bytes":
            application.wire.send(b"x")
        else:
            application.close() if what == "fin" else application.reset()
        assert here.pool.take(repeatable=False) is None


@pytest.mark.parametrize("what", ["fin", "reset", "bytes"])
async def test_an_idle_connection_that_says_anything_is_closed(what: str) -> None:
    """Bytes on an idle connection are never a response."""
    async with well() as here:
        await here.idle()
        application = await here.upstream.connection()
        if what == "bytes":
            await application.send(OK)
        else:
            application.close() if what == "fin" else application.reset()
        async with asyncio.timeout(5):
            while here.pool.idle_count:
                await asyncio.sleep(0)
        assert here.pool.take(repeatable=True) is None


@in_fake_time
async def test_no_more_than_so_many_idle() -> None:
    """A burst does not stay for ever."""
    async with well() as here:
        (connection,) = await here.open()
        here.pool._idle = [connection] * MAX_IDLE
        (other,) = await here.open()
        here.pool.give_back(other, 4.0)
        assert here.pool.idle_count == MAX_IDLE
        assert other.transport.is_closing()
        here.pool._idle = []


@in_fake_time
async def test_as_many_idle_as_were_used_at_once_a_moment_ago() -> None:
    """A burst that comes back within two seconds finds its connections; then they go, one an answer."""
    async with well() as here:
        await here.idle(4, keep_s=600)
        for idle in (4, 3, 2, 1, 1):
            await asyncio.sleep(2.1)
            connection = here.pool.take(repeatable=True)
            assert connection is not None
            here.pool.give_back(connection, 600)
            assert here.pool.idle_count == idle


@in_fake_time
async def test_what_may_not_idle_is_closed_at_once() -> None:
    """The application said zero."""
    async with well() as here:
        (connection,) = await here.open()
        here.pool.give_back(connection, 0.0)
        assert here.pool.idle_count == 0
        assert connection.transport.is_closing()


@in_fake_time
async def test_close_idle_leaves_what_is_lent() -> None:
    """A request in flight is not idle."""
    async with well() as here:
        await here.idle(2)
        lent = here.pool.take(repeatable=True)
        assert lent is not None
        here.pool.close_idle()
        await turns(5)
        assert (here.pool.idle_count, here.pool.active_count) == (0, 1)
        assert not lent.transport.is_closing()


@pytest.mark.parametrize(
    ("field", "kept_s"),
    [
        (None, 4.0),
        (b"timeout=5", 4.0),
        (b"timeout=75", 4.0),
        (b"timeout=3", 2.0),
        (b"timeout=2", 1.0),
        (b"timeout=1", 0.5),
        (b"timeout=0", 0.0),
        (b"max=100, timeout=3", 2.0),
        (b"timeout=3, max=100", 2.0),
        (b"timeout=3;max=100", 2.0),
        (b"xtimeout=1", 4.0),
        (b"timeout=1x", 4.0),
        (b"timeout=-1", 4.0),
        (b"max=5", 4.0),
        (b"", 4.0),
        (b"timeout=999999999999999999", 4.0),
    ],
)
def test_an_announced_time_out_is_undercut(field: bytes | None, kept_s: float) -> None:
    """By a second, or by half; what cannot be read is not believed."""
    assert keep_for({} if field is None else {b"keep-alive": field}, 4.0) == kept_s


async def test_a_keep_alive_time_out_is_learnt_from_the_response() -> None:
    """The next request comes after it has run out, and goes to a fresh connection."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(ok(b"", "Keep-Alive: timeout=1"))
        response = await client.final()
        assert response.one(b"keep-alive") is None
        assert await application.read_until_close() == b""
        await house.until(lambda: house.pool.idle_count == 0)


# Connecting.


async def test_a_refused_connect_says_so() -> None:
    """And is counted."""
    async with well() as here:
        await here.upstream.close()
        with pytest.raises(UpstreamRefused):
            await here.open()
        assert here.metrics.upstream_connects.value("refused") == 1


async def test_a_deadline_that_has_passed_is_a_time_out() -> None:
    """Nothing is left open."""
    async with well() as here:
        with pytest.raises(ConnectTimeout):
            await here.pool.connect(here.loop.time() - 1)
        assert here.pool.active_count == 0


async def test_a_connect_is_counted_and_timed() -> None:
    """One observation each."""
    async with well() as here:
        await here.open(2)
        assert here.metrics.upstream_connects.value("ok") == 2
        assert sum(here.metrics.upstream_connect_seconds.counts) == 2


async def test_a_connection_that_ends_at_once_is_forgotten() -> None:
    """An application that accepts and hangs up leaves nothing in the books."""
    async with well() as here:
        (connection,) = await here.open()
        (await here.upstream.connection()).reset()
        async with asyncio.timeout(5):
            while here.pool.active_count:
                await asyncio.sleep(0)
        assert connection.lost


@pytest.mark.parametrize(("how", "reset"), [("fin", False), ("reset", True)])
async def test_a_borrower_hears_how_its_connection_ended(how: str, reset: bool) -> None:
    """Once; what came before comes before."""
    async with well() as here:
        (connection,) = await here.open()
        connection.borrower = borrower = Borrowing()
        application = await here.upstream.connection()
        await application.send(b"last")
        await turns(10)
        application.close() if how == "fin" else application.reset()
        async with asyncio.timeout(5):
            while borrower.lost is None:
                await asyncio.sleep(0)
        assert (borrower.data, borrower.lost) == (b"last", reset)
        assert connection.borrower is None


async def test_the_probe_tells_three_answers_apart() -> None:
    """Accepts, refuses, says nothing; and it leaves no connection behind."""
    async with well() as here:
        assert await ask(here.pool, here.loop.time() + 5) is Answer.ACCEPTS
        assert await ask(here.pool, here.loop.time() - 1) is Answer.SILENT
        await here.upstream.close()
        assert await ask(here.pool, here.loop.time() + 5) is Answer.REFUSES
        await turns(5)
        assert here.pool.active_count == 0


# Stray bytes against a request.


async def test_bytes_that_came_before_the_request_left_do_not_answer_it() -> None:
    """An application's parting word on an idle connection is not taken for the answer of the next request."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(GET)
        application = await upstream.connection()
        await application.read_request()
        await application.send(OK)
        await client.final()
        await house.until(lambda: house.pool.idle_count == 1)
        client.wire.send(GET)
        application.wire.send(ok(b"stray"))
        second = await upstream.connection()
        assert (await second.read_request()).start == b"GET / HTTP/1.1"
        await second.send(OK)
        assert (await client.final()).body == b"ok"


async def test_an_application_on_a_unix_socket_is_reached(tmp_path) -> None:
    """And kept, as one on TCP; its client has an address all the same."""
    async with Upstream(path=tmp_path / "app.sock") as upstream, House(upstream) as house:
        client = await house.client()
        for _ in range(3):
            await client.send(b"GET / HTTP/1.0\r\n\r\n" if _ == 2 else GET)
            if not _:
                application = await upstream.connection()
            head = await application.read_head()
            assert b"X-Forwarded-For: 127.0.0.1\r\n" in head
            await application.send(OK)
            assert (await client.final()).body == b"ok"
        assert b"\r\nHost: localhost\r\n" in head
        assert upstream.accepted == 1
