"""Kept connections must not hold the workers that other requests wait for; what keeps no worker is kept."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.upstream import accepting
from drainproxy.proxy.upstream.accepting import Stage
from drainproxy.proxy.upstream.starvation import FIRST_S, LAPS, LONGEST_PAUSE_S, WAIT_S
from tests.proxy.test_upstream import Borrowing, well
from tests.proxy.test_upstream_tls import ours, theirs
from tests.support.client import Client
from tests.support.clock import over_sockets
from tests.support.house import House
from tests.support.prefork import OK, Prefork
from tests.support.upstream import Upstream, answering
from tests.support.wire import PATIENCE_S, turns
from tests.support.words import get

if TYPE_CHECKING:
    from drainproxy.proxy.upstream.connection import UpstreamConnection
    from tests.proxy.test_upstream import Well

__all__ = ["ours", "theirs"]

NEVER_IDLE_OUT = {"upstream_idle": 600.0}
"""What ends a kept connection in these tests is what was learnt."""
ROUNDS = 50
"""Two will do where the worker is on a core as soon as it may."""
PAGE, HELD = get("/"), get("/held")


async def behind_a_held_one(house: House, upstream: Prefork) -> bytes:
    """Have a request wait while the one worker is in another; return its answer."""
    upstream.release.clear()
    first, second = await house.client(), await house.client()
    await first.send(HELD)
    await asyncio.to_thread(upstream.entered.acquire)
    await second.send(PAGE)
    await house.until(lambda: house.pool.open_count > 1)
    upstream.release.set()
    assert (await first.final()).raw.endswith(b"ok")
    answer = (await second.final()).body
    first.close()
    second.close()
    return answer


@pytest.mark.parametrize("where", ["tcp", "unix"])
async def test_a_request_does_not_wait_behind_a_kept_connection(where: str, tmp_path) -> None:
    """The worker it waits for is given up at once; before, after `upstream_idle`."""
    path = tmp_path / "app.sock" if where == "unix" else None
    with Prefork(path=path) as upstream:
        async with House(upstream.address, **NEVER_IDLE_OUT) as house:
            for _ in range(ROUNDS):
                assert await behind_a_held_one(house, upstream) == b"ok"
                if house.pool.starvation.off:
                    break
            assert house.pool.starvation.off
            assert house.pool.idle_count == 0
            assert await behind_a_held_one(house, upstream) == b"ok"


async def test_a_handshake_does_not_wait_behind_a_kept_connection(ours, theirs) -> None:
    """Where the application speaks TLS, what waits has not even been greeted: the backlog tells of it."""
    with Prefork(tls=theirs) as upstream:
        async with House(upstream.address, upstream_tls=ours, connect_timeout=60, **NEVER_IDLE_OUT) as house:
            upstream.release.clear()
            first, second = await house.client(), await house.client()
            await first.send(HELD)
            await asyncio.to_thread(upstream.entered.acquire)
            await second.send(PAGE)
            await house.until(lambda: len(house.tasks) == 1)
            upstream.release.set()
            assert (await first.final()).body == (await second.final()).body == b"ok"


async def test_a_connection_that_is_always_in_use_gives_its_worker_up() -> None:
    """One client that asks again and again starves nobody: who waits is seen to be overtaken."""
    with Prefork() as upstream:
        async with House(upstream.address, **NEVER_IDLE_OUT) as house:
            busy, waiting = await house.client(), await house.client()
            await busy.send(HELD)
            await asyncio.to_thread(upstream.entered.acquire)
            await waiting.send(PAGE)
            await house.until(lambda: house.pool.open_count == 2)
            upstream.release.set()
            await busy.final()
            answer = asyncio.ensure_future(waiting.final())
            while not answer.done():
                assert (await busy.ask(PAGE)).body == b"ok"
            assert (await answer).body == b"ok"


class Reuseport:
    """One of several workers with an event loop and a listening socket of its own (SO_REUSEPORT)."""

    def __init__(self, port: int = 0) -> None:
        self.wire = socket.socket()
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.wire.bind(("127.0.0.1", port))
        self.wire.listen(100)
        self._up, self._stalled, self._go_on = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with Upstream(answering()) as upstream:
            self._loop.remove_reader(upstream._wire)
            upstream._wire.close()
            upstream._wire = self.wire
            self.wire.setblocking(False)
            self._loop.add_reader(self.wire, upstream._accept)
            self._up.set()
            await self._end.wait()

    def stall(self) -> None:
        """Have it stand still, as in a garbage collection."""

        def stand_still() -> None:
            self._stalled.set()
            self._go_on.wait(PATIENCE_S)

        self._loop.call_soon_threadsafe(stand_still)
        assert self._stalled.wait(PATIENCE_S)

    def go_on(self) -> None:
        self._go_on.set()

    def __enter__(self) -> Reuseport:
        self._thread.start()
        assert self._up.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE_S)


async def test_a_worker_with_a_queue_of_its_own_that_stands_still_starves_nobody() -> None:
    """Others are answered by other workers meanwhile: what waits for this one is let in by no close."""
    with Reuseport() as first, Reuseport(first.wire.getsockname()[1]) as second:
        async with House(f"http://127.0.0.1:{first.wire.getsockname()[1]}", **NEVER_IDLE_OUT) as house:
            answers = 0

            async def ask(client: Client) -> None:
                nonlocal answers
                while answers < 400:
                    await client.ask(PAGE)
                    answers += 1

            second.stall()
            clients = [await house.client() for _ in range(32)]
            asking = [asyncio.ensure_future(ask(client)) for client in clients]
            await house.until(lambda: answers >= 400 or house.pool.starvation.learnt)
            assert not house.pool.starvation.learnt
            assert house.pool.starvation.waiting
            second.go_on()
            await asyncio.gather(*asking)
            house.pool.close_idle()
            await house.until(lambda: not house.pool.open_count)


@pytest.mark.parametrize("busy", [False, True])
async def test_the_applications_own_probe_gets_through(busy: bool) -> None:
    """A kubelet asks the application itself, and waits in a queue that no request of ours stands in."""
    with Prefork() as upstream:
        async with House(upstream.address, **NEVER_IDLE_OUT) as house:
            client = await house.client()
            assert (await client.ask(PAGE)).body == b"ok"
            answer = asyncio.ensure_future(probed(upstream))
            while not answer.done():
                if busy:
                    assert (await client.ask(PAGE)).body == b"ok"
                await asyncio.sleep(0)
            assert await answer == b"ok"


async def probed(upstream: Prefork) -> bytes:
    """Ask the application itself, and hang up."""
    async with await Client.connect(("127.0.0.1", upstream.port)) as kubelet:
        return (await kubelet.ask(PAGE)).body


async def test_an_event_loop_keeps_its_connections() -> None:
    """Slow answers and fast ones side by side: each is read at once, and nothing is closed."""
    slow = asyncio.Event()

    async def handle(connection) -> None:
        while (request := await connection.read_request()).start:
            if b"/slow" in request.start:
                await slow.wait()
            await connection.send(OK)

    async with Upstream(handle) as upstream, House(upstream, **NEVER_IDLE_OUT) as house:
        waiting = [await house.client() for _ in range(3)]
        for client in waiting:
            await client.send(get("/slow"))
        fast = await house.client()
        for _ in range(50):
            assert (await fast.ask(PAGE)).body == b"ok"
            await asyncio.sleep(0.001)
        slow.set()
        for client in waiting:
            await client.final()
        assert upstream.accepted == 4
        assert (house.pool.idle_count, house.pool.starvation.learnt) == (4, False)


# What is learnt, and forgotten.


async def sent(here: Well, connection: UpstreamConnection) -> None:
    """Have a request on a connection that the application has accepted, or will, and does not read."""
    connection.borrower = Borrowing()
    here.pool.starvation.sent(connection)
    connection.transport.write(PAGE)


async def overtake(here: Well, times: int) -> None:
    """Answer so many requests on a kept connection."""
    for _ in range(times):
        kept = here.pool.take(repeatable=True)
        assert kept is not None
        await asyncio.sleep(WAIT_S)
        here.pool.give_back(kept, 600.0)


@over_sockets
async def test_who_is_overtaken_again_and_again_shows_that_kept_ones_hold_the_workers() -> None:
    """Nothing is kept then; that is tried again, believed longer the next time, and forgotten in the end."""
    async with well() as here:
        pool, learning = here.pool, here.pool.starvation
        told: list[bool] = []
        learning.on_change = lambda: told.append(learning.learnt)
        for kept_off_s in (FIRST_S, 6 * FIRST_S, 6 * FIRST_S):
            (fresh,) = await here.open()
            kept = await here.open()
            kept[0].borrower = Borrowing()
            # It has just been used again, so that none idles: closing idle ones is not what is tried here.
            await sent(here, fresh)
            for _ in range(LAPS + 2):
                kept[0].reused = True
                kept[0].lent_at = here.loop.time()
                await asyncio.sleep(WAIT_S)
                if learning.off:
                    break
                if learning.waiting:
                    learning.answered(kept[0])
            assert learning.off
            pool.give_back(kept[0], 600.0)
            assert pool.idle_count == 0
            pool.discard(fresh)
            await asyncio.sleep(kept_off_s - 0.1)
            assert learning.off
            await asyncio.sleep(0.2)
            assert not learning.off
            assert learning.learnt
        await here.idle(2)
        assert pool.idle_count == 2
        await asyncio.sleep(6 * FIRST_S)
        assert told == [True, False]


@over_sockets
async def test_an_application_that_stands_still_costs_a_few_connections_and_teaches_nothing() -> None:
    """It reads nobody, and closing idle ones does not help: that is tried ever more seldom."""
    async with well() as here:
        learning = here.pool.starvation
        (fresh,) = await here.open()
        await sent(here, fresh)
        tried = 0
        for _ in range(300):
            if not here.pool.idle_count:
                await here.idle(1, keep_s=600.0)
                tried += 1
            await asyncio.sleep(0.1)
        assert tried <= 5 + 30 / LONGEST_PAUSE_S + 1
        assert not learning.learnt
        here.pool.discard(fresh)


@over_sockets
async def test_a_request_that_was_read_is_waited_for_and_nothing_is_closed() -> None:
    """However long it takes: a long poll, a report."""
    async with well() as here:
        (fresh,) = await here.open()
        await here.idle(3, keep_s=600.0)
        await sent(here, fresh)
        await turns(5)
        await (await here.upstream.connection()).more()
        await overtake(here, 3 * LAPS)
        await asyncio.sleep(60)
        assert (here.pool.idle_count, here.pool.starvation.learnt) == (3, False)
        assert not here.pool.starvation.waiting
        here.pool.discard(fresh)


@over_sockets
async def test_no_more_idle_than_were_used_at_once_lately() -> None:
    """What a burst has left is closed one by one as others are given back."""
    async with well() as here:
        opened = await here.open(5)
        for connection in opened:
            here.pool.give_back(connection, 600.0)
        assert here.pool.idle_count == 5
        for _ in range(10):
            await asyncio.sleep(1)
            kept = here.pool.take(repeatable=True)
            assert kept is not None
            here.pool.give_back(kept, 600.0)
        assert here.pool.idle_count == 1


# What the kernel tells.


def unread(transport: asyncio.BaseTransport) -> bool:
    """Nothing of it was read."""
    return accepting.stage(transport) is not Stage.READ


@pytest.mark.parametrize(
    ("family", "bound", "called"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "0.0.0.0", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
        (socket.AF_UNIX, "", ""),
    ],
)
async def test_the_kernel_tells_what_was_not_accepted_and_what_was_not_read(
    family: int, bound: str, called: str, tmp_path
) -> None:
    """In both families, on a listener for both, and on a Unix socket."""
    if family == socket.AF_UNIX:
        listening = socket.socket(family)
        bound = called = str(tmp_path / "a.sock")
        listening.bind(bound)
        listening.listen()
    else:
        listening = socket.create_server((bound, 0), family=family, dualstack_ipv6=bound == "::")
    loop = asyncio.get_running_loop()
    with listening:
        if family == socket.AF_UNIX:
            transport, _ = await loop.create_unix_connection(asyncio.Protocol, called)
        else:
            port = listening.getsockname()[1]
            transport, _ = await loop.create_connection(asyncio.Protocol, called, port)
        with contextlib.closing(transport):
            waiting = 0 if family == socket.AF_UNIX else 1
            assert (unread(transport), accepting.backlog(transport)) == (False, waiting)
            transport.write(PAGE)
            await turns(3)
            unknown = Stage.UNREAD if family == socket.AF_UNIX else Stage.UNACCEPTED
            assert accepting.stage(transport) is unknown
            accepted, _ = listening.accept()
            with accepted:
                assert (unread(transport), accepting.backlog(transport)) == (True, 0)
                accepted.recv(4096)
                assert not unread(transport)


async def test_where_nobody_can_tell_it_counts_as_read(monkeypatch) -> None:
    """A kernel without sock_diag: nothing is closed for what cannot be seen."""

    def none(*_: object) -> socket.socket:
        raise OSError

    async with Upstream(answering()) as upstream, House(upstream) as house:
        client = await house.client()
        await client.ask(PAGE)
        transport = next(iter(house.pool._open)).transport
        monkeypatch.setattr(accepting.socket, "socket", none)
        assert (unread(transport), accepting.backlog(transport)) == (False, 0)
        monkeypatch.undo()
