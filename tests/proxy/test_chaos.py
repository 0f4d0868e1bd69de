"""Many clients that do everything at once: no answer is another's, none is wrong, nothing is left behind.

Each run has a seed; a failure names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from dataclasses import dataclass, field

import pytest

from tests.support.house import House
from tests.support.message import Ending
from tests.support.process import Proxy
from tests.support.upstream import Connection, Upstream
from tests.support.wire import Ended

CLIENTS = 24
REQUESTS = 12


def mark(path: bytes, body: bytes) -> bytes:
    """What the right answer to a request begins with."""
    return hashlib.sha256(path + b"|" + body).hexdigest().encode()


@dataclass
class Application:
    """Answers with the request's mark, in every shape, and sometimes not at all."""

    dice: random.Random
    seen: list[bytes] = field(default_factory=list)
    posted: list[bytes] = field(default_factory=list)

    async def __call__(self, connection: Connection) -> None:
        """Serve one connection."""
        while True:
            request = await connection.read_request()
            if request.ending is not Ending.COMPLETE:
                return
            path = request.start.split(b" ")[1]
            self.seen.append(path)
            if request.body:
                self.posted.append(path)
            body = mark(path, request.body) + b"." * self.dice.choice([0, 1, 500, 70_000, 400_000])
            await asyncio.sleep(self.dice.choice([0, 0, 0.001, 0.01]))
            if not await self._answer(connection, body):
                return

    async def _answer(self, connection: Connection, body: bytes) -> bool:
        shape = self.dice.choice(
            ["length"] * 4 + ["chunks"] * 4 + ["interim", "close", "break", "reset", "none"]
        )
        if shape == "none":
            return False
        if shape == "interim":
            await connection.send(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n")
        if shape == "chunks":
            await connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(body), 100_000):
                piece = body[at : at + 100_000]
                await connection.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
                await asyncio.sleep(0)
            await connection.send(b"0\r\nX-End: yes\r\n\r\n")
            return True
        if shape == "close":
            await connection.send(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            return False
        sent = body if shape in {"length", "interim"} else body[: len(body) // 2]
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + sent)
        if shape == "reset":
            connection.reset()
        return sent is body


@dataclass
class Caller:
    """One client: asks, pipelines, sends bodies, and sometimes leaves in the middle."""

    house: House | Proxy
    name: int
    dice: random.Random
    outcomes: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Ask until enough was asked, on as many connections as it takes."""
        number = 0
        while number < REQUESTS:
            client = await self.house.client(receive_buffer=self.dice.choice([None, 8192]))
            with contextlib.suppress(Ended, OSError):
                while number < REQUESTS:
                    batch = [self._request(number + index) for index in range(self.dice.choice([1, 1, 1, 3]))]
                    number += len(batch)
                    if not await self._exchange(client, batch):
                        break
            client.close()

    def _request(self, number: int) -> tuple[bytes, bytes, bytes]:
        path = b"/%d/%d" % (self.name, number)
        body = self.dice.randbytes(self.dice.choice([0, 0, 10, 3000, 150_000]))
        head = b"%b %b HTTP/1.1\r\nHost: a\r\n" % (b"POST" if body else b"GET", path)
        if not body:
            return path, body, head + b"\r\n"
        if self.dice.random() < 0.5:
            return path, body, head + b"Content-Length: %d\r\n\r\n" % len(body) + body
        half = len(body) // 2
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]))
        return path, body, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    async def _exchange(self, client, batch: list[tuple[bytes, bytes, bytes]]) -> bool:
        raw = b"".join(request for _, _, request in batch)
        if self.dice.random() < 0.08:
            await client.send(raw[: self.dice.randrange(len(raw))])
            await asyncio.sleep(self.dice.choice([0, 0.005]))
            self.dice.choice([client.reset, client.half_close, client.close])()
            self.outcomes.append("left")
            return False
        sending = asyncio.ensure_future(client.send(raw))
        try:
            for path, body, _ in batch:
                response = await client.final()
                if response.ending is not Ending.COMPLETE:
                    self.outcomes.append(str(response.ending))
                    return False
                if response.status == 200:
                    assert response.body.startswith(mark(path, body)), f"another's answer to {path!r}"
                else:
                    assert response.status == 502, response.raw[:300]
                self.outcomes.append(str(response.status))
                if response.one(b"connection") == b"close":
                    return False
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return True


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_clients_and_application_do_nobody_gets_anothers_answer(seed: int) -> None:
    """Every complete answer is the right one, most requests succeed, and the house is empty at the end."""
    dice = random.Random(seed)
    application = Application(random.Random(seed + 1000))
    async with Upstream(application) as upstream, House(upstream) as house:
        callers = [Caller(house, number, random.Random(dice.random())) for number in range(CLIENTS)]
        async with asyncio.timeout(60):
            await asyncio.gather(*(caller.run() for caller in callers))
        outcomes = [outcome for caller in callers for outcome in caller.outcomes]
        assert outcomes.count("200") > len(outcomes) / 2
        doubled = len(application.seen) - len(set(application.seen))
        assert doubled <= house.metrics.retries.value()
        assert not [start for start in set(application.posted) if application.posted.count(start) > 1]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_a_process_comes_through_it_without_a_defect(loop: str) -> None:
    """Nothing in flight at the end, no connection lent, no line that says defect, and it drains at once."""
    async with (
        Upstream(Application(random.Random(7))) as upstream,
        Proxy(upstreams=[upstream.address], loop=loop, propagation="none", access_log="all") as proxy,
    ):
        await proxy.ready()
        callers = [Caller(proxy, number, random.Random(number)) for number in range(CLIENTS)]
        async with asyncio.timeout(60):
            await asyncio.gather(*(caller.run() for caller in callers))
        async with asyncio.timeout(10):
            while sum(await busy(proxy)):
                await asyncio.sleep(0.05)
        proxy.signal()
        assert await proxy.exit_code() == 0
        assert [line for line in proxy.lines if line["event"] in {"defect", "library"}] == []
        outcomes = [outcome for caller in callers for outcome in caller.outcomes]
        answered = [line for line in proxy.lines if line["event"] == "request" and line["status"] == 200]
        assert len(answered) >= outcomes.count("200") > len(outcomes) / 2


async def busy(proxy: Proxy) -> tuple[float, ...]:
    """What a process still holds."""
    metrics = await proxy.metrics()
    names = ['requests_in_flight{kind="http"}', 'upstream_connections{state="active"}']
    return (*(metrics[name] for name in names), metrics['client_connections{state="active"}'])
