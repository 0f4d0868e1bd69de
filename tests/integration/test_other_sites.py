"""What a web site may do to a forwarded admin port through an operator's browser: nothing, in a real one."""

from __future__ import annotations

import shutil

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.integration.scene import entered, get
from tests.support.process import Proxy
from tests.support.upstream import Upstream

playwright = pytest.importorskip(
    "playwright.async_api", reason="playwright is not installed; make .venv/group-deploy"
)
CHROMIUM = shutil.which("chromium")
REBOUND = "rebound.example"
"""A site's own name that its DNS server now points at 127.0.0.1."""

ATTACK = """async (admin) => {
  const tell = (done) => done.then((it) => it.text().then((text) => `${it.status} ${text}`), () => "refused");
  const soon = (done) => Promise.race([done, new Promise((late) => setTimeout(late, 2000))]);
  const said = [];
  for (const path of ["/status", "/", "/metrics"])
    said.push(await tell(fetch(admin + path)), await tell(fetch(admin + path, {mode: "no-cors"})));
  for (const path of ["/drain", "/undrain", "/drain?prestop=1"]) {
    const simple = {method: "POST", mode: "no-cors", body: "a=b"};
    said.push(await tell(fetch(admin + path, simple)));
    said.push(await tell(fetch(admin + path, {method: "POST", headers: {"X-Own": "1"}})));
    navigator.sendBeacon(admin + path, "x");
    const form = document.body.appendChild(document.createElement("form"));
    const frame = document.body.appendChild(document.createElement("iframe"));
    frame.name = form.target = "f" + path;
    Object.assign(form, {method: "post", action: admin + path}).submit();
    await soon(new Promise((loaded) => { frame.onload = frame.onerror = loaded; }));
  }
  for (const [kind, from] of [["script", "src"], ["img", "src"], ["iframe", "src"], ["embed", "src"]]) {
    const element = document.createElement(kind);
    const ended = new Promise((end) => { element.onload = element.onerror = end; });
    element[from] = admin + "/status";
    document.body.appendChild(element);
    await soon(ended);
  }
  return said;
}"""
"""Everything that a page may try without asking anybody."""

INTRUDE = """async (elsewhere) => {
  const broken = [];
  document.addEventListener("securitypolicyviolation", (event) => broken.push(event.effectiveDirective));
  const script = document.createElement("script");
  script.textContent = "window.intruded = true";
  document.body.appendChild(script);
  const image = document.createElement("img");
  image.setAttribute("onerror", "window.intruded = true");
  image.src = elsewhere;
  document.body.appendChild(image);
  const base = document.createElement("base");
  base.href = elsewhere;
  document.head.appendChild(base);
  await fetch(elsewhere).catch(() => null);
  await new Promise((turn) => setTimeout(turn, 200));
  return [window.intruded === true, [...new Set(broken)].sort()];
}"""
"""What injected markup would try on the live page."""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; apt-get install chromium")
async def test_no_site_sees_or_moves_anything_through_a_browser() -> None:
    """Cross-origin requests, forms, frames and a rebound name; then markup within our own page."""

    async def site(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><body>a site", content_type="text/html")

    pages = web.Application()
    pages.router.add_get("/", site)
    async with (
        Upstream() as upstream,
        Proxy(upstreams=[upstream.address]) as proxy,
        TestServer(pages, host="127.0.0.1") as server,
        playwright.async_playwright() as tools,
    ):
        await proxy.ready()
        admin, elsewhere = f"http://127.0.0.1:{proxy.admin[1]}", f"http://site.example:{server.port}"
        rules = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1, MAP site.example 127.0.0.1"
        browser = await tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", rules])
        page = await browser.new_page()
        seen: dict[str, set[int]] = {}

        def note(response) -> None:
            address, _, path = response.url.removeprefix("http://").partition("/")
            if address.endswith(str(proxy.admin[1])):
                seen.setdefault(f"/{path}", set()).add(response.status)

        page.on("response", note)
        await page.goto(elsewhere)
        said = await page.evaluate(ATTACK, admin)
        assert not [each for each in said if '"phase"' in each or "drainproxy_" in each]
        assert seen["/status"] == {403}
        assert seen["/drain"] == seen["/undrain"] == {404}

        await page.goto(f"http://{REBOUND}:{proxy.admin[1]}/livez")
        ask = "(path) => fetch(path).then((it) => it.status)"
        for path, status in (("/livez", 200), ("/status", 403), ("/", 403)):
            assert await page.evaluate(ask, path) == status
        assert (await page.goto(f"http://{REBOUND}:{proxy.admin[1]}/status")).status == 403

        client = await proxy.client()
        await client.send(get("/<img/src=x/onerror=intruded=true>"))
        application = await entered(upstream)
        await page.goto(admin)
        await page.wait_for_selector("li.now:text('ready')", timeout=60_000)
        await page.wait_for_selector("text=onerror", timeout=60_000)
        intruded, broken = await page.evaluate(INTRUDE, elsewhere)
        assert not intruded
        assert {"script-src-elem", "img-src", "connect-src", "base-uri"} <= set(broken)
        application.close()
        assert [line["phase"] for line in proxy.lines if line["event"] == "phase"] == ["ready"]
        await browser.close()
