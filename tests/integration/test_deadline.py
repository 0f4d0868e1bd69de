"""The drain's deadline: what is left is ended so that its client sees it, and every book says the same."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.integration.application import Application
from tests.integration.scene import (
    DATE,
    DRAIN_DEADLINE,
    DRAIN_ENDING,
    OK,
    OK_CLOSE,
    command,
    entered,
    events,
    get,
    held,
    on_one_loop,
    report,
    status,
    undated,
)
from tests.support.message import Ending
from tests.support.upstream import answering
from tests.support.wire import End

SOON = {
    "grace_period": "900ms",
    "app_stop": "100ms",
    "reserve": "100ms",
    "refuse_window": "0s",
    "propagation_max": "0s",
}
"""The deadline is 0.7 s after the signal."""
HEAD = b"HTTP/1.1 200 OK\r\n" + DATE


async def begun(proxy, upstream, framing: bytes, body: bytes, version: str):
    """Return a client that has read a head and a part of its body."""
    client, application = await held(proxy, upstream, get(version=version))
    await application.send(HEAD + framing + b"\r\n" + body)
    await client.read_to(b"half.")
    return client


async def test_a_body_that_is_cut_is_seen_to_be_cut(start, upstream):
    """In every framing and version it ends in a reset: after a FIN a close-delimited body looks whole."""
    proxy = await start(upstream, **SOON)
    cut = [
        await begun(proxy, upstream, framing, body, version)
        for version in ("1.0", "1.1")
        for framing, body in (
            (b"Content-Length: 10\r\n", b"half."),
            (b"Transfer-Encoding: chunked\r\n", b"5\r\nhalf.\r\n"),
            (b"Connection: close\r\n", b"half."),
        )
    ]
    proxy.signal()
    for client in cut:
        rest = await client.read_until_close()
        # The chunk's own end, and nothing that could pass for the body's.
        assert rest in {b"", b"\r\n"}
        assert client.end is End.RESET
    assert await proxy.exit_code() == 0
    line = await report(proxy, cut=len(cut))
    assert line["ended_by"] == "the drain's deadline"
    assert line["unused_s"] == 0


@on_one_loop
async def test_an_answer_that_nobody_reads_is_cut_too(start, upstream):
    """The application has said all of it; the client has not taken it by the deadline, and sees that."""
    proxy = await start(upstream, **SOON)
    body = b"x" * 8_000_000
    client = await proxy.client(receive_buffer=4096)
    await client.send(get())
    application = await entered(upstream)
    await application.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
    sending = asyncio.ensure_future(application.send(body))
    await client.read_to(b"\r\n\r\n")
    proxy.signal()
    assert await proxy.exit_code() == 0
    assert len(await client.read_until_close()) < len(body)
    assert client.end is End.RESET
    await asyncio.gather(sending, return_exceptions=True)
    await report(proxy, cut=1)


async def test_where_no_head_was_sent_the_deadline_is_a_503(start, upstream):
    """A waiting request, a half sent upload and a half sent head: each is told, and told to come back."""
    proxy = await start(upstream, **SOON)
    plain, _ = await held(proxy, upstream)
    old, _ = await held(proxy, upstream, get(version="1.0"))
    upload = await proxy.client()
    await upload.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf.")
    await (await upstream.connection_with_bytes()).read_to(b"half.")
    head = await proxy.client()
    await head.send(get()[:10])
    proxy.signal()
    for client in (plain, old, upload, head):
        answer = await client.final()
        assert undated(answer) == DRAIN_DEADLINE
        assert answer.ending is Ending.COMPLETE
        assert await client.read_eof() is End.FIN
        client.close()
    assert await proxy.exit_code() == 0
    assert (await proxy.line("drain_plan"))["deadline_in_s"] == pytest.approx(0.7, abs=0.1)
    # Not earlier than the plan says; and nothing else would have ended them.
    assert sum((await report(proxy, timed_out=3))["phases_s"].values()) >= 0.65


@on_one_loop
async def test_every_book_says_the_same(start, upstream, tmp_path):
    """Log, termination message, /status and metrics, after a drain in which every outcome occurred."""
    message = tmp_path / "termination-log"
    message.touch()
    proxy = await start(
        upstream, **SOON | {"grace_period": "1500ms", "refuse_window": "10s", "termination_log": str(message)}
    )
    finished, answering_it = await held(proxy, upstream)
    timed_out, _ = await held(proxy, upstream)
    lost, losing_it = await held(proxy, upstream)
    cut = await begun(proxy, upstream, b"Content-Length: 10\r\n", b"half.", "1.1")
    # Without SIGTERM the process outlives its drain, and can be asked.
    assert (await command(proxy, "drain", "--prestop"))[0] == 0
    await proxy.line("phase", phase="draining")
    refused = await proxy.client()
    assert undated(await refused.ask(get())) == DRAIN_ENDING
    await answering_it.send(OK_CLOSE)
    assert (await finished.final()).raw == OK_CLOSE
    losing_it.reset()
    assert (await lost.final()).start == b"HTTP/1.1 502 Bad Gateway"
    assert await cut.read_eof() is End.RESET
    assert undated(await timed_out.final()) == DRAIN_DEADLINE
    outcomes = {"finished": 1, "timed_out": 1, "cut": 1, "refused": 1, "lost": 1}
    line = await report(proxy, **outcomes, late=1)
    assert line["in_flight_at_start"] == 4
    fields = {key: value for key, value in line.items() if key not in {"time", "level", "event"}}
    assert json.loads(message.read_text()) == fields
    assert (await status(proxy))["report"] == fields
    metrics = await proxy.metrics()
    for outcome, count in outcomes.items():
        assert metrics[f'drain_requests_total{{outcome="{outcome}"}}'] == count
    assert metrics["late_requests_total"] == 1
    assert metrics["drain_unused_seconds"] == fields["unused_s"] == 0
    assert metrics['phase{phase="drained"}'] == 1
    assert metrics['requests_in_flight{kind="http"}'] == 0
    listener = str(proxy.addresses[0][1])
    for code, count in (("200", 2), ("502", 1), ("503", 2)):
        series = f'requests_total{{code="{code}",listener="{listener}",method="GET",phase="ending"}}'
        assert metrics[series] == count
    for client in (finished, timed_out, lost, refused):
        client.close()
    proxy.signal()
    assert await proxy.exit_code() == 0


@on_one_loop
async def test_a_termination_message_is_written_only_where_the_kubelet_made_a_file(start, upstream, tmp_path):
    """Outside a pod nothing is left behind."""
    message = tmp_path / "none"
    proxy = await start(upstream, termination_log=str(message))
    proxy.signal()
    assert await proxy.exit_code() == 0
    assert not message.exists()


@on_one_loop
async def test_near_the_end_new_requests_are_refused(start, upstream):
    """With less than `refuse_window` left there is no time to answer: 503, Retry-After, close."""
    proxy = await start(upstream, refuse_window="60s")
    idle, application = await held(proxy, upstream)
    await application.send(OK_CLOSE)
    assert (await idle.final()).raw == OK
    busy, application = await held(proxy, upstream)
    proxy.signal()
    await proxy.line("phase", phase="draining")
    new = await proxy.client()
    for client in (idle, new):
        assert undated(await client.ask(get())) == DRAIN_ENDING
        assert await client.read_eof() is End.FIN
        client.close()
    line = await proxy.line("request", reason="drain-ending")
    assert (line["status"], line["sent"]) == (503, False)
    # What was in before is finished.
    await application.send(OK)
    assert (await busy.final()).raw == OK_CLOSE
    busy.close()
    assert await proxy.exit_code() == 0
    await report(proxy, finished=1, refused=2, late=2)


@on_one_loop
async def test_the_refuse_window_opens_as_late_as_it_says(start):
    """Before it, late requests are forwarded; within it, refused; the deadline comes after."""
    async with Application() as upstream:
        proxy = await start(upstream, **SOON | {"grace_period": "2200ms", "refuse_window": "1s"})
        busy, _ = await held(proxy, upstream)
        proxy.signal()
        await proxy.line("phase", phase="draining")
        late, application = await held(proxy, upstream)
        await application.send(OK_CLOSE)
        assert (await late.final()).raw == OK_CLOSE
        late.close()
        # It is open from 1 s to 2 s; the late request took a moment.
        await asyncio.sleep(1.3)
        refused = await proxy.client()
        assert undated(await refused.ask(get())) == DRAIN_ENDING
        refused.close()
        assert undated(await busy.final()) == DRAIN_DEADLINE
        busy.close()
        assert await proxy.exit_code() == 0
        await report(proxy, finished=1, refused=1, timed_out=1, late=2)


@on_one_loop
async def test_drain_timeout_ends_a_request_before_the_deadline(start, upstream):
    """The setting bounds what one request may add to a drain."""
    proxy = await start(upstream, drain_timeout="300ms")
    client, _ = await held(proxy, upstream)
    streaming = await begun(proxy, upstream, b"Content-Length: 10\r\n", b"half.", "1.1")
    proxy.signal()
    assert undated(await client.final()) == DRAIN_DEADLINE
    assert await streaming.read_eof() is End.RESET
    client.close()
    assert await proxy.exit_code() == 0
    line = await report(proxy, timed_out=1, cut=1)
    assert line["ended_by"] == "nothing is in flight"
    assert line["unused_s"] > 18


@on_one_loop
async def test_the_application_sees_its_cut_requests_end(start, upstream):
    """It is told by a close, and can stop working for nobody."""
    proxy = await start(upstream, drain_timeout="300ms")
    client, application = await held(proxy, upstream)
    proxy.signal()
    assert not await application.more()
    client.close()
    assert await proxy.exit_code() == 0


@on_one_loop
async def test_a_grace_period_that_is_too_short_is_warned_of_and_lived_with(start):
    """`run` never refuses to start over a sum: it says which number to change, and shortens the longest."""
    async with Application(answering(OK)) as upstream:
        proxy = await start(upstream, propagation="alb", grace_period="40s")
        problem = (await proxy.line("config_problem"))["problem"]
        assert "grace period 40 s is too short" in problem
        assert "at least 105 s" in problem
        assert (await proxy.metrics())["config_problems"] == 1
        assert (await status(proxy))["config_problems"] == [problem]
        assert len(events(proxy, "config_problem")) == 1
        client = await proxy.client()
        assert (await client.ask(get())).raw == OK
        proxy.signal()
        assert (await proxy.line("drain_plan"))["propagation_max_s"] == 25.0


@on_one_loop
async def test_the_message_is_small_enough_for_a_kubelet(start, tmp_path):
    """4096 bytes are kept of it, and it is one line of JSON."""
    message = Path(tmp_path / "termination-log")
    message.touch()
    async with Application() as upstream:
        proxy = await start(upstream, termination_log=str(message))
        client, application = await held(proxy, upstream)
        proxy.signal()
        await proxy.line("phase", phase="draining")
        await application.send(OK)
        await client.final()
        client.close()
        assert await proxy.exit_code() == 0
    text = message.read_text()
    assert len(text) <= 4096
    assert text.count("\n") == 1
    assert json.loads(text)["requests"]["finished"] == 1
