"""The live page in a real browser: it fits a phone, obeys its policy, follows a drain."""

from __future__ import annotations

import shutil

import pytest

from tests.integration.scene import held
from tests.support.process import Proxy
from tests.support.upstream import Upstream

playwright = pytest.importorskip(
    "playwright.async_api", reason="playwright is not installed; make .venv/group-deploy"
)
CHROMIUM = shutil.which("chromium")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; apt-get install chromium")
async def test_the_page_follows_a_drain():
    """Desktop and phone: no sideways scrolling, no complaint in the console, a name for every landmark."""
    async with Upstream() as upstream, Proxy(upstreams=[upstream.address], propagation="cluster") as proxy:
        await proxy.ready()
        await held(proxy, upstream)
        async with playwright.async_playwright() as tools:
            browser = await tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = await browser.new_page()
            complaints: list[str] = []
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            await page.goto(f"http://127.0.0.1:{proxy.admin[1]}/")
            await page.wait_for_selector("li.now:text('ready')", timeout=60_000)
            proxy.signal()
            await page.wait_for_selector("li.now:text('propagating')", timeout=60_000)
            assert await page.get_attribute("li.now", "aria-current") == "step"
            assert "1 http" in await page.inner_text("#count")
            assert await page.get_attribute("html", "lang") == "en"
            for width in (1280, 375):
                await page.set_viewport_size({"width": width, "height": 800})
                needed = await page.evaluate("document.documentElement.scrollWidth")
                assert needed <= width
            assert complaints == []
            await browser.close()
