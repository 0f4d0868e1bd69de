"""More clients than descriptors: nobody who is inside suffers, nothing spins, and the drain goes its way."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.integration.application import Application
from tests.integration.scene import OK, OK_CLOSE, entered, get, held, report, status, until
from tests.support.client import Client
from tests.support.process import Proxy
from tests.support.upstream import answering
from tests.support.wire import PATIENCE_S

DESCRIPTORS = 48


async def test_a_crowd_beyond_the_places_harms_nobody_inside(upstream, loop_kind):
    """The limit of connections keeps descriptors free: who asks something is served, in the middle of it."""
    proxy = Proxy(upstreams=[upstream.address], loop=loop_kind, descriptors=DESCRIPTORS, settle="50ms")
    async with proxy:
        await proxy.ready()
        limits = (await status(proxy))["limits"]
        assert (limits["descriptors"], limits["max_connections"]) == (DESCRIPTORS, DESCRIPTORS // 3)
        assert (await proxy.line("limits"))["max_connections"] == DESCRIPTORS // 3
        inside, application = await held(proxy, upstream)
        crowd = [await proxy.client() for _ in range(4 * DESCRIPTORS)]
        assert await answered(proxy, upstream)
        assert proxy.descriptors() < DESCRIPTORS
        await application.send(OK)
        assert (await inside.final()).raw == OK
        await inside.send(get())
        assert (await application.read_request()).start == b"GET / HTTP/1.1"
        proxy.signal()
        await proxy.line("phase", phase="draining")
        await application.send(OK)
        assert (await inside.final()).raw == OK_CLOSE
        inside.close()
        for client in crowd:
            client.close()
        assert await proxy.exit_code() == 0
        await report(proxy, finished=1)


async def test_a_crowd_that_comes_at_once_takes_no_descriptor_that_will_be_back(upstream, loop_kind):
    """All of it waits in the backlog, and who asks comes last: each finds the descriptor of who gave way."""
    proxy = Proxy(upstreams=[upstream.address], loop=loop_kind, descriptors=DESCRIPTORS, settle="50ms")
    async with proxy:
        await proxy.ready()
        inside, application = await held(proxy, upstream)
        proxy.signal(signal.SIGSTOP)
        crowd = [await proxy.client() for _ in range(4 * DESCRIPTORS)]
        last = await proxy.client()
        await last.send(get("/last"))
        proxy.signal(signal.SIGCONT)
        await (await entered(upstream)).send(OK_CLOSE)
        assert (await last.final()).raw == OK
        assert proxy.descriptors() < DESCRIPTORS
        await application.send(OK)
        assert (await inside.final()).raw == OK
        assert not [line for line in proxy.lines if line["event"] in {"turned_away", "defect"}]
        for client in (*crowd, last, inside):
            client.close()


async def test_without_a_descriptor_left_who_is_inside_is_served(upstream, loop_kind):
    """Callers of the admin port have taken the last ones. New clients are served again once some are back."""
    proxy = Proxy(upstreams=[upstream.address], loop=loop_kind, descriptors=DESCRIPTORS, settle="50ms")
    async with proxy:
        await proxy.ready()
        inside, application = await held(proxy, upstream)
        other, _ = await held(proxy, upstream)
        await proxy.line("phase")
        crowd = [await Client.connect(proxy.admin) for _ in range(DESCRIPTORS)]
        await until(lambda: proxy.descriptors() >= DESCRIPTORS - 1, "there are descriptors left")
        turned_away = [await proxy.client() for _ in range(100)]
        busy_s = processor_s(proxy.pid)
        await asyncio.sleep(0.5)
        assert processor_s(proxy.pid) - busy_s < 0.3, "it spins"
        await application.send(OK)
        assert (await inside.final()).raw == OK
        await inside.send(get())
        assert (await application.read_request()).start == b"GET / HTTP/1.1"
        other.close()
        for client in (*crowd, *turned_away):
            client.close()
        async with asyncio.timeout(PATIENCE_S):
            while not await answered(proxy, upstream):
                pass
        await application.send(OK)
        assert (await inside.final()).raw == OK
        assert not [line for line in proxy.lines if line["event"] == "defect"]


async def test_who_finds_no_descriptor_in_mid_drain_came_late_and_was_refused(upstream, loop_kind):
    """Callers are still sent here, though there is no connection of theirs to count."""
    proxy = Proxy(upstreams=[upstream.address], loop=loop_kind, descriptors=DESCRIPTORS, settle="50ms")
    async with proxy:
        await proxy.ready()
        inside, application = await held(proxy, upstream)
        proxy.signal()
        await proxy.line("phase", phase="draining")
        crowd = [await Client.connect(proxy.admin) for _ in range(DESCRIPTORS)]
        await until(lambda: proxy.descriptors() >= DESCRIPTORS - 1, "there are descriptors left")
        late = await proxy.client()
        await late.send(get())
        answer = await late.final()
        assert (answer.status, answer.body) == (503, b"503 Service Unavailable: out-of-descriptors\n")
        for client in crowd:
            client.close()
        await application.send(OK)
        assert (await inside.final()).raw == OK_CLOSE
        assert await proxy.exit_code() == 0
        await report(proxy, finished=1, refused=1, late=1)


async def test_a_burst_beyond_the_descriptors_is_told_503(upstream, loop_kind):
    """Who asked and has no place is told why: nobody is reset, and nobody just hung up on."""
    proxy = Proxy(upstreams=[upstream.address], loop=loop_kind, descriptors=DESCRIPTORS, settle="50ms")
    async with proxy:
        await proxy.ready()
        proxy.signal(signal.SIGSTOP)
        burst = [await proxy.client() for _ in range(3 * DESCRIPTORS)]
        for client in burst:
            await client.send(get())
        proxy.signal(signal.SIGCONT)
        answers = [asyncio.ensure_future(client.final()) for client in burst]
        await until(lambda: sum(each.done() for each in answers) >= 2 * DESCRIPTORS, "they are not told")
        assert {each.result().status for each in answers if each.done()} == {503}
        assert not [line for line in proxy.lines if line["event"] in {"defect", "library"}]
        for each in answers:
            each.cancel()
        await asyncio.wait(answers)


async def test_nobody_of_a_burst_is_hung_up_on(loop_kind):
    """Twice as many callers as descriptors: each is served or told why not."""
    async with Application(answering(OK)) as upstream:
        proxy = Proxy(upstreams=[upstream.address], loop=loop_kind, descriptors=DESCRIPTORS, settle="50ms")
        async with proxy:
            await proxy.ready()
            proxy.signal(signal.SIGSTOP)
            burst = [await proxy.client() for _ in range(2 * DESCRIPTORS + 4)]
            for client in burst:
                await client.send(get())
            proxy.signal(signal.SIGCONT)
            assert {(await client.final()).status for client in burst} <= {200, 503}


async def answered(proxy, upstream) -> bool:
    """Ask on a new connection; return whether it was answered."""
    client = await proxy.client()
    try:
        await client.send(get("/new"))
        async with asyncio.timeout(1.0):
            await (await entered(upstream)).send(OK_CLOSE)
            return (await client.final()).raw == OK
    except (OSError, TimeoutError):
        await asyncio.sleep(0.02)
        return False
    finally:
        client.close()


def processor_s(pid: int) -> float:
    """Return the processor time a process has used (proc(5): utime, stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
