"""A real EventSource goes through a whole drain and comes back each time: never is it told to stay away."""

from __future__ import annotations

import shutil

import pytest

from tests.proxy.test_events import HEAD, chunk
from tests.support.house import House
from tests.support.upstream import Connection, Upstream
from tests.support.words import get, ok

playwright = pytest.importorskip(
    "playwright.async_api", reason="playwright is not installed; make .venv/group-deploy"
)
CHROMIUM = shutil.which("chromium")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; apt-get install chromium"),
]
LISTEN = """() => {
    window.seen = []; window.errors = [];
    window.source = new EventSource("/events");
    source.onmessage = (event) => seen.push(Number(event.data));
    source.onerror = () => errors.push(source.readyState);
}"""
CLOSED = 2


async def application(connection: Connection) -> None:
    """A page, and a stream that goes on behind what its reader has seen last; /held until it is let go."""
    while (request := await connection.read_request()).start:
        path = request.start.split(b" ")[1]
        if path == b"/held":
            await connection.read_until_close()
        elif path != b"/events":
            await connection.send(ok(b"<!doctype html>", "Content-Type: text/html"))
        else:
            number = int(request.one(b"last-event-id") or 0) + 1
            await connection.send(HEAD + chunk(b"retry: 50\n\n"))
            await connection.send(chunk(b"id: %d\ndata: %d\n\n" % (number, number)))
            await connection.read_until_close()


async def test_an_event_source_comes_back_through_a_whole_drain_and_after_it() -> None:
    """Told to leave, served and told again, closed where there is no time, closed where nobody is there."""
    lifecycle = {"grace_period": 20.0, "leave_spread": 0.0, "refuse_window": 6.0}
    async with (
        Upstream(application) as upstream,
        House(upstream, lifecycle=lifecycle) as house,
        playwright.async_playwright() as tools,
    ):
        browser = await tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"http://127.0.0.1:{house.port}/")
        await page.evaluate(LISTEN)
        await page.wait_for_function("seen.length === 1")
        held = await house.client()
        await held.send(get("/held"))
        await house.until(lambda: house.inflight.count("http") == 1)
        house.sigterm()
        await page.wait_for_function("seen.length >= 5")
        await house.until(lambda: house.metrics.refused.value("drain-ending") >= 3)
        await upstream.close()
        before = await page.evaluate("errors.length")
        await page.wait_for_function(f"errors.length >= {before + 4}")
        seen, errors = await page.evaluate("[seen, errors]")
        assert seen == list(range(1, len(seen) + 1)), "an event was lost, or came twice"
        assert len(errors) >= len(seen)
        assert CLOSED not in errors
        await browser.close()
