"""A span's way through a head: whatever a client says of its trace, the head stays one."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainproxy.metrics import Metrics
from drainproxy.proxy.accounting.shown import trace_of
from drainproxy.proxy.accounting.tracing import Tracing
from drainproxy.proxy.message.filters import RequestFilters
from drainproxy.proxy.message.parser import RequestHead
from drainproxy.proxy.message.trust import Trust
from tests.support.house import House
from tests.support.upstream import Upstream
from tests.support.wire import PATIENCE_S
from tests.support.words import get

CONTEXT = re.compile(rb"traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]\r\n")
STATE = re.compile(rb"tracestate: [ -~]{1,1024}\r\n")


def hexes(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size).map(lambda some: some.hex().encode())


usual = st.tuples(st.sampled_from((b"00", b"01", b"ff")), hexes(16), hexes(8), hexes(1)).map(b"-".join)
parents = st.one_of(st.binary(max_size=80), usual, st.tuples(usual, st.binary(max_size=9)).map(b"".join))
members = st.tuples(hexes(1), st.sampled_from((b"=", b"@=", b"")), st.binary(max_size=9)).map(b"".join)
states = st.one_of(st.binary(max_size=600), st.lists(members, max_size=40).map(b",".join))


@pytest.fixture(scope="module")
def tracing():
    """Without a receiver: nothing here is sampled by its own decision.

    The library's thread has ended: between two tries it draws from `random`, which hypothesis has seeded.
    """
    tracing = Tracing("http://127.0.0.1:9/v1/traces", 0.0, Metrics())
    tracing._spans.shutdown()
    return tracing


def begin(tracing: Tracing, head: RequestHead) -> None:
    """Let a head pass where nothing but a trace is set."""
    RequestFilters(Trust(()), [tracing]).prepare(head, b"192.0.2.1", b"http", b"a")


def head_of(*fields: bytes) -> RequestHead:
    head = RequestHead()
    head.method, head.target = b"GET", b"/"
    head.fields = [b"Host: a\r\n", *fields]
    return head


@given(
    st.lists(parents, max_size=2),
    st.lists(states, max_size=3),
    st.binary(max_size=20),
    st.sets(st.sampled_from((b"close", b"traceparent", b"tracestate"))),
)
@settings(deadline=None, max_examples=300)
def test_whatever_comes_one_context_goes_on(tracing, came, state, agent, named):
    """Nothing raises, nothing else is touched, and what goes on is one line each, in ASCII."""
    lines = [b"TraceParent: %b\r\n" % each.translate(None, b"\r\n") for each in came]
    lines += [b"tracestate: %b\r\n" % each.translate(None, b"\r\n") for each in state]
    head = head_of(*lines, b"X-Last: 1\r\n")
    head.noted[b"user-agent"] = agent
    head.named = frozenset(named)
    begin(tracing, head)
    host, last, context, *rest = head.fields
    assert (host, last) == (b"Host: a\r\n", b"X-Last: 1\r\n")
    assert CONTEXT.fullmatch(context)
    assert not rest or (len(rest) == 1 and STATE.fullmatch(rest[0]))
    assert head.named <= {b"close"}
    tracing.end(head, 200)


def test_what_has_no_span_ends_without_one(tracing):
    """A head that was refused before its trace began, and what was no head at all."""
    tracing.end(head_of(), 400, "malformed-head")
    tracing.end(None, 400, "malformed-head")


async def test_an_end_without_an_answer_is_bounded():
    """The receiver does not answer, and the library would try for five seconds."""
    async with Upstream() as receiver:
        tracing = Tracing(f"{receiver.address}/v1/traces", 1.0, Metrics())
        head = head_of()
        begin(tracing, head)
        tracing.end(head, 200)
        assert await tracing.close(0.05) == 1
        export = await receiver.connection()
        assert (await export.read_request()).start.startswith(b"POST /v1/traces ")
        # No thread is left behind that tries again, and draws from `random` in the middle of another test.
        await export.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        for thread in threading.enumerate():
            if thread.name == "traces":
                await asyncio.to_thread(thread.join, PATIENCE_S)
                assert not thread.is_alive()


TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


async def test_a_line_has_the_callers_trace_where_none_of_ours_begins():
    """A failure is found from the caller's trace though drainproxy sends no spans; it has none of its own."""
    async with Upstream() as upstream, House(upstream) as house:
        client = await house.client()
        await client.send(get("/", f"traceparent: {PARENT}"))
        connection = await upstream.connection()
        assert f"traceparent: {PARENT}".encode() in await connection.read_head()
        connection.reset()
        await client.final()
        await house.until(lambda: house.diary.of("request"))
        (line,) = house.diary.of("request")
        fields = line if isinstance(line, dict) else line.fields
        assert fields["trace_id"] == TRACE
        assert "span_id" not in fields


@pytest.mark.parametrize(
    ("lines", "known"),
    [
        ((PARENT,), True),
        ((PARENT.replace("00-", "cc-", 1) + "-more",), True),
        ((PARENT + "-more",), False),
        ((PARENT.replace("00-", "ff-", 1),), False),
        ((PARENT.replace(TRACE, "0" * 32),), False),
        ((PARENT.replace("b7ad6b7169203331", "0" * 16),), False),
        ((PARENT.replace(TRACE, TRACE.upper()),), False),
        ((PARENT, PARENT), False),
        (("x" + PARENT,), False),
        (("",), False),
        ((), False),
    ],
)
def test_a_trace_that_cannot_be_read_is_none(lines, known):
    """As in Trace Context, sections 3.2.2 and 4.3: nobody would find what a client made up."""
    head = head_of(*(f"Traceparent: {line}\r\n".encode() for line in lines))
    assert trace_of(head) == ({"trace_id": TRACE} if known else {})
