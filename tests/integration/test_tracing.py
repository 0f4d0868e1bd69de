"""Spans of requests, taken by a real OTLP receiver: what they say, which are sent, what a dead one costs."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.proxy.accounting.tracing import MAX_QUEUED
from tests.integration.scene import OK, entered, get, held, until
from tests.support.client import Client
from tests.support.command import environment
from tests.support.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.integration.application import Application
    from tests.integration.scene import Start
    from tests.support.message import Message
    from tests.support.process import Proxy

    Traced = Callable[..., Awaitable[Proxy]]

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0([0-3])")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes every span."""
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
def traced(receiver: Receiver, start: Start, upstream: Application) -> Traced:
    """`await traced()` starts a proxy that sends every trace to the receiver."""

    async def traced(**settings: str) -> Proxy:
        settings = {"trace_endpoint": receiver.endpoint, "trace_ratio": "1", **settings}
        return await start(upstream, **settings)

    return traced


async def forwarded(proxy: Proxy, upstream: Application, *fields: str) -> Message:
    """Send a request with these fields, and answer it; return it as the application got it."""
    client = await proxy.client()
    await client.send(get("/a/b?token=secret", *fields))
    application = await upstream.connection_with_bytes()
    request = await application.read_request()
    await application.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert (await client.final()).status == 200
    client.close()
    return request


def context(request: Message) -> tuple[str, str, bool]:
    """The trace, the span and whether it is sampled, of the one traceparent that a request has."""
    (came,) = request.all(b"traceparent")
    match = TRACEPARENT.fullmatch(came.decode())
    assert match is not None
    return match[1], match[2], bool(int(match[3]) & 1)


def loaded_by(module: str) -> set[str]:
    """The packages that an import brings along."""
    asked = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-c", asked]
    return set(
        subprocess.run(command, capture_output=True, check=True, env=environment()).stdout.decode().split()
    )


async def test_a_span_is_the_callers_child_and_the_applications_parent(
    traced: Traced, upstream: Application, receiver: Receiver
) -> None:
    """One trace from the caller to the application; a query, which may hold secrets, is not in it."""
    proxy = await traced()
    fields = (f"TraceParent: {SAMPLED}", "tracestate: a=1", "tracestate: b=2", "User-Agent: curl")
    request = await forwarded(proxy, upstream, *fields)
    span = await receiver.span()
    assert context(request) == (TRACE, span["id"], True)
    assert request.all(b"tracestate") == [b"a=1,b=2"]
    assert (span["trace"], span["parent"], span["state"]) == (TRACE, CALLER, "a=1,b=2")
    assert (span["name"], span["kind"], span["status"]) == ("GET", 2, 0)
    assert span["took_ns"] > 0
    assert span["resource"]["service.name"] == "drainproxy"
    assert span["said"] == {
        "client.address": "127.0.0.1",
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "url.path": "/a/b",
        "url.scheme": "http",
        "user_agent.original": "curl",
    }


async def test_who_began_a_trace_decides_whether_it_is_sent(
    traced: Traced, upstream: Application, receiver: Receiver
) -> None:
    """And so does the application behind: an unsampled trace goes on as one."""
    proxy = await traced()
    request = await forwarded(proxy, upstream, f"traceparent: {UNSAMPLED}")
    trace, span, sampled = context(request)
    assert (trace, sampled) == (TRACE, False)
    assert span != CALLER
    trace, span, sampled = context(await forwarded(proxy, upstream))
    assert sampled
    taken = await receiver.span()
    assert (taken["trace"], taken["id"], taken["parent"]) == (trace, span, "")


async def test_the_ratio_is_of_traces_that_begin_here(
    traced: Traced, upstream: Application, receiver: Receiver
) -> None:
    """At 0 only callers' traces are sent."""
    proxy = await traced(trace_ratio="0")
    assert context(await forwarded(proxy, upstream))[2] is False
    await forwarded(proxy, upstream, f"traceparent: {SAMPLED}")
    assert (await receiver.span())["trace"] == TRACE


UNREADABLE = [
    [f"traceparent: {SAMPLED.upper()}"],
    [f"traceparent: ff-{TRACE}-{CALLER}-01"],
    [f"traceparent: 00-{'0' * 32}-{CALLER}-01"],
    [f"traceparent: {SAMPLED}x"],
    [f"traceparent: {SAMPLED}", f"traceparent: {UNSAMPLED}"],
    ["traceparent: \x80"],
    [f"traceparent: {'0' * 4000}"],
]


async def test_what_is_no_context_begins_a_trace(
    traced: Traced, upstream: Application, receiver: Receiver
) -> None:
    """Also two that contradict each other. What came with it is not passed on (Trace Context section 4.3)."""
    proxy = await traced()
    spans = set()
    for fields in UNREADABLE:
        request = await forwarded(proxy, upstream, *fields, "tracestate: a=1")
        trace, span, _ = context(request)
        assert trace != TRACE
        assert request.all(b"tracestate") == []
        spans.add(span)
    await receiver.span(len(UNREADABLE))
    assert {span["id"] for span in receiver.spans} == spans


async def test_no_client_can_take_the_context_away(traced: Traced, upstream: Application) -> None:
    """Connection names what was for this hop: what is set here is not (RFC 9110 section 7.6.1)."""
    proxy = await traced()
    request = await forwarded(proxy, upstream, "Connection: traceparent, X-Own", "X-Own: 1")
    assert context(request)
    assert request.all(b"x-own") == []


async def test_what_fails_says_why(traced: Traced, upstream: Application, receiver: Receiver) -> None:
    """A refusal and a failure, with the reason that metrics and log have; one span each."""
    proxy = await traced(max_body_bytes="10")
    client = await proxy.client()
    await client.send(get())
    (await entered(upstream)).close()
    assert (await client.final()).status == 502
    span = await receiver.span()
    assert span["said"]["error.type"] == "upstream-gone"
    assert (span["said"]["http.response.status_code"], span["status"]) == (502, 2)
    upstream_fails = OK.replace(b"200 OK", b"500 No")
    client, application = await held(proxy, upstream)
    await application.send(upstream_fails)
    await client.final()
    assert (await receiver.span(2))["said"]["error.type"] == "500"


async def test_without_it_the_callers_bytes_pass_and_nothing_is_loaded(
    start: Start, upstream: Application
) -> None:
    """What is off costs nothing and changes nothing, not even letter case or a field that is none."""
    proxy = await start(upstream)
    fields = (f"TraceParent: {SAMPLED.upper()}", "tracestate:  a=1", f"traceparent: {UNSAMPLED}")
    request = await forwarded(proxy, upstream, *fields)
    assert [name for name, _ in request.fields if b"trace" in name.lower()] == [
        b"TraceParent", b"tracestate", b"traceparent",
    ]  # fmt: skip
    assert request.all(b"traceparent") == [SAMPLED.upper().encode(), UNSAMPLED.encode()]
    assert "opentelemetry" not in loaded_by("drainproxy.app")
    assert "opentelemetry" in loaded_by("drainproxy.proxy.accounting.tracing")


async def test_a_receiver_that_hangs_costs_spans_and_nothing_else(
    traced: Traced, upstream: Application, receiver: Receiver
) -> None:
    """The queue is bounded, what does not fit is counted, and the exit waits for half of `reserve`."""
    await receiver.answer("wait")
    proxy = await traced(reserve="1s")
    client, application = await held(proxy, upstream)
    await application.send(OK)
    await client.final()
    for _ in range(MAX_QUEUED // 100 + 10):
        await client.send(get() * 100)
        for _ in range(100):
            await application.read_request()
            await application.send(OK)
            assert (await client.final()).status == 200
    await receiver.batch()
    metrics = await proxy.metrics()
    # Slower than the library is patient with a batch, it gives that up and has room for some more.
    results = {
        name: metrics[f'trace_spans_total{{result="{name}"}}'] for name in ("sent", "failed", "dropped")
    }
    assert results["sent"] == 0
    assert results["failed"] + results["dropped"] >= 900
    proxy.signal()
    client.close()
    assert await proxy.exit_code() == 0
    assert (await proxy.line("trace_spans"))["unsent"] > MAX_QUEUED
    assert (await proxy.line("exit"))["after_s"] < 10
    proxy.lines[:] = [line for line in proxy.lines if line["event"] != "library"]


async def test_what_ends_last_is_sent_before_the_exit(
    traced: Traced, upstream: Application, receiver: Receiver
) -> None:
    """The requests that a drain has waited for are those one wants to see."""
    proxy = await traced()
    client, application = await held(proxy, upstream, get("/last"))
    proxy.signal()
    await proxy.line("phase", phase="draining")
    await application.send(OK)
    await client.final()
    assert await proxy.exit_code() == 0
    assert (await receiver.span())["said"]["url.path"] == "/last"
    assert not [line for line in proxy.lines if line["event"] == "trace_spans"]


async def test_what_a_receiver_refuses_is_counted(
    traced: Traced, upstream: Application, receiver: Receiver
) -> None:
    """And what is taken is counted too."""
    proxy = await traced()
    await forwarded(proxy, upstream)
    await receiver.span()
    await receiver.answer("400")
    await forwarded(proxy, upstream)
    await receiver.batch(2)

    async def counted() -> dict[str, Any]:
        metrics = await proxy.metrics()
        return {name: metrics[f'trace_spans_total{{result="{name}"}}'] for name in ("sent", "failed")}

    while await counted() != {"sent": 1, "failed": 1}:
        pass
    await until(lambda: any(line["event"] == "library" for line in proxy.lines), "nobody says so")
    proxy.lines.clear()


async def test_a_line_names_the_trace_and_the_span_that_the_application_got(
    traced: Traced, upstream: Application
):
    """Whether it is sent or not; without tracing there is no such field."""
    proxy = await traced(access_log="all", log_format="json", trace_ratio="0")
    for caller in (SAMPLED, UNSAMPLED):
        went = await forwarded(proxy, upstream, f"traceparent: {caller}")
        trace_id, span_id, _ = context(went)
        line = await proxy.line("request", span_id=span_id)
        assert line["trace_id"] == trace_id == TRACE


async def exposed(proxy: Proxy, accept: str) -> list[str]:
    """The lines of a scrape that have an exemplar."""
    async with await Client.connect(proxy.admin) as client:
        ask = f"GET /metrics HTTP/1.1\r\nHost: admin\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        answer = await client.ask(ask.encode())
    assert answer.status == 200
    return [line for line in answer.body.decode().splitlines() if " # {" in line]


OPENMETRICS = "application/openmetrics-text; version=1.0.0"


async def test_a_slow_bucket_leads_to_a_trace(traced: Traced, upstream: Application) -> None:
    """By trace and span as the application got them, of a request whose spans are sent; in OpenMetrics alone,
    which has a place for it."""
    proxy = await traced()
    assert await exposed(proxy, OPENMETRICS) == []
    await forwarded(proxy, upstream, f"traceparent: {UNSAMPLED}")
    assert await exposed(proxy, OPENMETRICS) == []
    _, span, _ = context(await forwarded(proxy, upstream, f"traceparent: {SAMPLED}"))
    (line,) = await exposed(proxy, OPENMETRICS)
    assert line.startswith("drainproxy_request_duration_seconds_bucket{le=")
    series, exemplar = line.split(" # ")
    assert f'trace_id="{TRACE}"' in exemplar
    assert f'span_id="{span}"' in exemplar
    assert float(series.split()[-1]) >= 1, "an exemplar of nothing"
    bound = float(series.partition('le="')[2].partition('"')[0])
    assert 0 < float(exemplar.split()[-2]) <= bound
    assert await exposed(proxy, "text/plain") == []


async def test_without_traces_there_are_no_exemplars(start: Start, upstream: Application) -> None:
    """Whatever a caller's traceparent says."""
    proxy = await start(upstream)
    await forwarded(proxy, upstream, f"traceparent: {SAMPLED}")
    assert await exposed(proxy, OPENMETRICS) == []
