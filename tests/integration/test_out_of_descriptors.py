"""More clients than descriptors: nobody who is inside suffers, nothing spins, and the drain goes its way."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.integration.scene import OK, OK_CLOSE, defect, entered, get, held, report
from tests.support.process import Proxy

DESCRIPTORS = 48


@defect("I8", "asyncio waits a second after each accept that failed", on="asyncio")
async def test_a_crowd_beyond_the_descriptors_harms_nobody_inside(upstream, loop_kind):
    """Connected clients are served throughout, new ones within a second of the crowd's end."""
    proxy = Proxy(upstreams=[upstream.address], loop=loop_kind, descriptors=DESCRIPTORS, settle="50ms")
    async with proxy:
        await proxy.ready()
        inside, application = await held(proxy, upstream)
        crowd = [await proxy.client() for _ in range(2 * DESCRIPTORS)]
        while proxy.descriptors() < DESCRIPTORS:
            await asyncio.sleep(0.01)
        busy_s = processor_s(proxy.pid)
        await asyncio.sleep(0.5)
        assert processor_s(proxy.pid) - busy_s < 0.3, "it spins"
        await application.send(OK)
        assert (await inside.final()).raw == OK
        await inside.send(get())
        assert (await application.read_request()).start == b"GET / HTTP/1.1"
        for client in crowd:
            client.close()
        async with asyncio.timeout(1.0):
            while not await answered(proxy, upstream):
                pass
        crowd = [await proxy.client() for _ in range(2 * DESCRIPTORS)]
        proxy.signal()
        await proxy.line("phase", phase="draining")
        await application.send(OK)
        assert (await inside.final()).raw == OK_CLOSE
        inside.close()
        for client in crowd:
            client.close()
        assert await proxy.exit_code() == 0
        await report(proxy, finished=1)


async def answered(proxy, upstream) -> bool:
    """Ask on a new connection; return whether it was answered."""
    client = await proxy.client()
    try:
        await client.send(get("/new"))
        async with asyncio.timeout(0.2):
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
