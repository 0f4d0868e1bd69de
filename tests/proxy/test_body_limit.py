"""`max_body_bytes`: what is over it never becomes a request of the application's."""

from __future__ import annotations

import pytest

from tests.support.house import House
from tests.support.message import Ending
from tests.support.upstream import Upstream, answering
from tests.support.words import GET, OK, ok, post

LIMIT = 1000
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunks(*sizes: int) -> bytes:
    """Chunks of these sizes, without the last one."""
    return b"".join(b"%x\r\n%b\r\n" % (size, b"x" * size) for size in sizes)


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
async def test_a_length_over_the_limit_is_refused_before_anything_is_forwarded(size: int) -> None:
    """413 and close, though the client is not even asked for the body; at the limit it goes through."""
    async with Upstream(answering()) as upstream, House(upstream, max_body_bytes=LIMIT) as house:
        client = await house.client()
        if size <= LIMIT:
            assert (await client.ask(post(b"x" * size))).body == b"ok"
            return
        await client.send(post(b"x" * size, "Expect: 100-continue")[:-size])
        answer = await client.final()
        assert (answer.status, answer.one(b"connection")) == (413, b"close")
        assert answer.body.endswith(b": body-too-large\n")
        client.half_close()
        assert upstream.accepted == 0
        assert house.metrics.refused.value("body-too-large") == 1


@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
@pytest.mark.parametrize("sizes", [(LIMIT + 1,), (LIMIT, 1), (1,) * (LIMIT + 1)], ids=["one", "two", "many"])
async def test_a_chunked_body_is_refused_once_it_passes_the_limit(
    sizes: tuple[int, ...], bytewise: bool
) -> None:
    """Whatever the chunks: the application sees a request that is never completed."""
    async with Upstream() as upstream, House(upstream, max_body_bytes=LIMIT) as house:
        client = await house.client()
        await client.send(CHUNKED)
        application = await upstream.connection()
        await (client.send_bytewise if bytewise else client.send)(chunks(*sizes))
        assert (await application.read_request()).ending in {Ending.TRUNCATED, Ending.RESET}
        answer = await client.final()
        assert (answer.status, answer.one(b"connection")) == (413, b"close")
        client.half_close()
        await house.until(lambda: not len(house.inflight))
        assert house.metrics.errors.value("body-too-large") == 1


async def test_a_chunked_body_at_the_limit_goes_through() -> None:
    """And the next one has the whole limit again."""
    async with Upstream() as upstream, House(upstream, max_body_bytes=LIMIT) as house:
        client = await house.client()
        application = None
        for _ in range(2):
            await client.send(CHUNKED + chunks(LIMIT - 1, 1) + b"0\r\n\r\n")
            application = application or await upstream.connection()
            request = await application.read_request()
            assert (request.ending, request.body) == (Ending.COMPLETE, b"x" * LIMIT)
            await application.send(OK)
            assert (await client.final()).status == 200


async def test_an_answer_that_has_begun_is_cut_where_the_body_passes_the_limit() -> None:
    """A 413 would stand in the middle of it."""
    async with Upstream() as upstream, House(upstream, max_body_bytes=LIMIT) as house:
        client = await house.client()
        await client.send(CHUNKED + chunks(10))
        application = await upstream.connection()
        await application.read_to(b"x" * 10)
        await application.send(ok(b"x" * 100)[:-50])
        await client.read_to(b"x" * 50)
        await client.send(chunks(LIMIT))
        await client.read_until_close()
        assert not await application.more()


async def test_without_the_setting_bodies_have_no_limit() -> None:
    """And requests without a body are not asked about one."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        client = await house.client()
        assert (await client.ask(post(b"x" * 5_000_000))).status == 200
        assert (await client.ask(GET)).status == 200
