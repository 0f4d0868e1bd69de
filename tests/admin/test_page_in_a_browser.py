"""The live page in a real browser: it fits a phone, obeys its policy, follows a drain, and is for all."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
from importlib.resources import files

import pytest

from tests.integration.scene import command, get, held
from tests.support.process import Proxy
from tests.support.upstream import Upstream

playwright = pytest.importorskip(
    "playwright.async_api", reason="playwright is not installed; make .venv/group-deploy"
)
CHROMIUM = shutil.which("chromium")
PATIENCE_MS = 60_000

pytestmark = [
    pytest.mark.slow,
    # The proxy is a process of its own: the test's loop is none of its business.
    pytest.mark.asyncio(loop_factories=["uvloop"]),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; apt-get install chromium"),
]


@contextlib.asynccontextmanager
async def opened(proxy: Proxy, **screen):
    """Open the page; what the browser complains of is an error."""
    async with playwright.async_playwright() as tools:
        browser = await tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page(**screen)
        page.set_default_timeout(PATIENCE_MS)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(f"http://127.0.0.1:{proxy.admin[1]}/")
        yield page
        # A proxy that has gone is complained of, rightly.
        assert [each for each in complaints if "ERR_CONNECTION_REFUSED" not in each] == []
        await browser.close()


async def test_the_page_follows_a_drain():
    """Desktop and phone: no sideways scrolling, no complaint in the console, a name for every landmark."""
    async with Upstream() as upstream, Proxy(upstreams=[upstream.address], propagation="cluster") as proxy:
        await proxy.ready()
        await held(proxy, upstream)
        async with opened(proxy) as page:
            await page.wait_for_selector("li.now:text('ready')")
            proxy.signal()
            await page.wait_for_selector("li.now:text('propagating')")
            assert await page.get_attribute("li.now", "aria-current") == "step"
            assert "1 http" in await page.inner_text("#count")
            decides = await page.inner_text(".clock.decides")
            assert re.fullmatch(r"sparse min\s+[\d.]+ s of 8.0 s", decides)
            assert "the process is too young to know its callers" in await page.inner_text("#waits")
            assert await page.locator(".clock.last").count() == 1, "the deadline stands beside it"
            assert await page.locator("#rates figure").count() == 3
            assert await page.get_attribute("html", "lang") == "en"
            for width in (1280, 375):
                await page.set_viewport_size({"width": width, "height": 800})
                needed = await page.evaluate("document.documentElement.scrollWidth")
                assert needed <= width


POD = {"pod_name": "till-6d5f7b9c8d-x2x4z", "pod_namespace": "shop", "node_name": "node-7", "rbac": "none"}


async def test_a_good_end_says_so_and_whose_it_was():
    """Ten pages look alike but for the pod's name; a proxy that served everybody and left is no failure."""
    async with Upstream() as upstream, Proxy(upstreams=[upstream.address], **POD) as proxy:
        await proxy.ready()
        async with opened(proxy) as page:
            await page.wait_for_selector("li.now:text('ready')")
            assert await page.title() == "ready \u00b7 shop/till-6d5f7b9c8d-x2x4z \u00b7 drainproxy"
            for name in ("shop/till-6d5f7b9c8d-x2x4z", "of till", "on node-7"):
                assert name in await page.inner_text("#about")
            assert (await command(proxy, "drain"))[0] == 0
            await page.wait_for_selector("li.now:text('drained')")
            proxy.signal()
            await page.wait_for_selector("#contact.good")
            assert await page.inner_text("#contact") == "drained, everybody was served"
            assert await page.inner_text("#verdict") == "Drained: everybody was served"
            assert (await page.title()).startswith("ended well \u00b7 shop/till")
            assert await page.is_visible("#report")


async def test_an_end_that_nobody_saw_is_no_good_one():
    """A proxy killed while it serves is gone, in red."""
    async with Upstream() as upstream, Proxy(upstreams=[upstream.address]) as proxy:
        await proxy.ready()
        async with opened(proxy) as page:
            await page.wait_for_selector("li.now:text('ready')")
            proxy.signal(signal.SIGKILL)
            await page.wait_for_selector("#contact.bad")
            assert (await page.title()).startswith("gone \u00b7")


async def test_errors_are_drawn_and_the_manual_is_linked():
    """What callers are not served by is red; a `docs_url` makes links of what is only named without it."""
    links = {"docs_url": "https://docs.example.com/drainproxy/"}
    async with (
        Proxy(upstreams=["http://127.0.0.1:9"], connect_timeout="100ms", **links) as proxy,
        opened(proxy) as page,
    ):
        await page.wait_for_selector("li.now:text('starting')")
        assert await page.locator("#rates .failing").count() == 0
        client = await proxy.client()
        await client.send(get())
        assert (await client.final()).status == 503
        await page.wait_for_selector("#rates .failing path[d*=L]")
        address = await page.get_attribute("a:text('docs/kubernetes.md')", "href")
        assert address == "https://docs.example.com/drainproxy/kubernetes.md"
        await page.click("summary")
        assert "EndpointSlices" in await page.inner_text("dl.words")


async def violations(page) -> list[str]:
    """Every rule of axe-core that the page breaks, best practices too, on a desk and on a phone."""
    found = []
    for width in (1280, 375):
        await page.set_viewport_size({"width": width, "height": 800})
        results = (await page.evaluate("axe.run()"))["violations"]
        found += [f"{width}: {each['id']}: {node['html']}" for each in results for node in each["nodes"]]
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing(scheme):
    """Before, during and after a drain, and when nobody answers any more; in light and in dark."""
    pytest.importorskip("axe_playwright_python", reason="axe is not installed; make .venv/group-deploy")
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    # Three seconds short, so that there is a problem to show.
    odd = {"grace_period": "18s", "propagation_min": "4s", "sparse_min": "4s", "propagation_max": "6s"}
    async with (
        Upstream() as upstream,
        Proxy(upstreams=[upstream.address], propagation="cluster", **odd) as proxy,
    ):
        await proxy.ready()
        client, connection = await held(proxy, upstream)
        async with opened(proxy, color_scheme=scheme) as page:
            await page.evaluate(axe)
            await page.click("summary")
            await page.wait_for_selector("#problems li")
            await page.wait_for_selector("#works tbody tr")
            assert await violations(page) == []
            assert (await command(proxy, "drain"))[0] == 0
            await page.wait_for_selector("li.now:text-matches('propagating|draining')")
            assert await violations(page) == []
            await page.wait_for_selector("li.now:text('drained')")
            await page.wait_for_selector("#verdict.bad")
            assert await violations(page) == []
            proxy.signal()
            await page.wait_for_selector("#contact.bad")
            assert await violations(page) == []
        client.close()
        connection.close()


async def test_the_keyboard_reaches_everything():
    """Tab goes to each thing that can be used and shows where it is; Enter stops what moves, and again."""
    async with Upstream() as upstream, Proxy(upstreams=[upstream.address]) as proxy:
        await proxy.ready()
        await held(proxy, upstream)
        async with opened(proxy) as page:
            await page.wait_for_selector("#works tbody tr")
            usable = await page.locator("button, a[href], input, select, summary, [tabindex]").count()
            reached = []
            for _ in range(usable):
                await page.keyboard.press("Tab")
                name, outline = await page.evaluate(
                    "(({tagName, className}, {outlineStyle, outlineWidth}) =>"
                    " [tagName + className, outlineStyle + outlineWidth])"
                    "(document.activeElement, getComputedStyle(document.activeElement))"
                )
                reached.append(name)
                assert outline.startswith("solid")
                assert outline != "solid0px"
            assert reached == ["BUTTON", "DIVscroll", "SUMMARY"]
            await page.focus("#pause")
            await page.keyboard.press("Enter")
            await page.wait_for_selector("#contact:text('paused')")
            assert await page.get_attribute("#pause", "aria-pressed") == "true"
            shown = await page.inner_text("#works")
            await page.wait_for_timeout(1500)
            assert await page.inner_text("#works") == shown
            await page.keyboard.press("Enter")
            await page.wait_for_function(
                "text => document.getElementById('works').innerText !== text", arg=shown
            )
