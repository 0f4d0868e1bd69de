"""Takes every picture in docs/ anew, of real processes: `make pictures`, or with names only some.

Needs chromium and the dependency group deploy; takes about two minutes. Nothing is drawn by hand: the page is
a browser's, and what a terminal shows is what the command wrote to one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import io
import os
import pty
import re
import shutil
import signal
import struct
import sys
import tempfile
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from playwright.async_api import Browser, async_playwright
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from drainproxy.proof.demo import application
from tests.support.command import environment
from tests.support.process import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROWS = 60
DEMO_S = 300
WARM_S = 40.0
"""So long is a process seen before its drain: what it shows of callers has to be heard first."""
CALLERS = 5
LEAVES_S = 1.4
"""From one of them to the next that hears of the drain; one never does."""
SEEN_S = 6.0
"""How far a drain is when it is looked at."""

REDRAWN = re.compile(r"\r?(?:\x1b\[2K)?(?:\x1b\[1A\x1b\[2K)+")
"""What stands between two frames of a live view."""
CONTROL = re.compile(r"\x1b\[\??[0-9;]*[A-HJKhl]|\r")

TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; }}
main {{ display: inline-block; padding: 14px 18px; border-radius: 8px; background: {background}; }}
body {{ color: {foreground}; }}
h1 {{ margin: 0 0 10px; font: 600 13px "DejaVu Sans Mono", monospace; opacity: .7; }}
pre {{ margin: 0; font: 14px/1.3 "DejaVu Sans Mono", monospace; }}
</style><main><h1>$ TITLE</h1><pre>{code}</pre></main>"""


def command(*words: str) -> tuple[str, ...]:
    """Return drainproxy's command line."""
    return (sys.executable, "-m", "drainproxy", *words)


async def written(*words: str, columns: int, seconds: float) -> str:
    """Return what a command writes to a terminal until its end, or an interrupt after `seconds`."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    env = environment(TERM="xterm-256color", COLORTERM="truecolor")
    child = await asyncio.create_subprocess_exec(*command(*words), stdin=theirs, stdout=theirs, env=env)
    os.close(theirs)
    read = bytearray()
    gone = asyncio.Event()

    def more() -> None:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # EIO: nobody has the other end any more
            piece = b""
        read.extend(piece)
        if not piece:
            asyncio.get_running_loop().remove_reader(ours)
            gone.set()

    asyncio.get_running_loop().add_reader(ours, more)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await gone.wait()
    if child.returncode is None:
        child.send_signal(signal.SIGINT)
    await child.wait()
    await gone.wait()
    os.close(ours)
    return read.decode().replace("\r\n", "\n")


async def photograph(browser: Browser, name: str, title: str, text: str, columns: int) -> None:
    """Write docs/NAME: a terminal that shows `text`."""
    console = Console(record=True, file=io.StringIO(), width=columns, force_terminal=True)
    console.print(Text.from_ansi(CONTROL.sub("", text).strip("\n")))
    html = console.export_html(
        theme=SVG_EXPORT_THEME, code_format=TERMINAL.replace("TITLE", title), inline_styles=True
    )
    page = await browser.new_page(viewport={"width": 1600, "height": 1200}, device_scale_factor=1.5)
    await page.set_content(html)
    await page.locator("main").screenshot(path=HERE / name)
    await page.close()


@contextlib.asynccontextmanager
async def draining() -> AsyncIterator[Proxy]:
    """Enter in mid drain: requests, streams and WebSockets in flight, and callers that still come."""
    with tempfile.NamedTemporaryFile() as ledger:
        app = await asyncio.create_subprocess_exec(
            *(sys.executable, application.__file__, ledger.name),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert app.stdout is not None
        address = re.search(rb"http://[\d.]+:\d+", await app.stdout.readline())
        assert address is not None
        place = {"pod_name": "shop-6d5f7b9c8d-x2x4z", "pod_namespace": "shop", "node_name": "node-7"}
        settings = {"propagation": "cluster", "grace_period": "60s", "rbac": "none", **place}
        try:
            async with (
                Proxy(upstreams=[address[0].decode()], **settings) as proxy,
                aiohttp.ClientSession() as web,
            ):
                await proxy.ready()
                house = "http://{}:{}".format(*proxy.addresses[0])
                callers = [asyncio.create_task(_come(house)) for _ in range(CALLERS)]
                await asyncio.sleep(WARM_S)
                paths = ("/slow?seconds=50", "/stream?seconds=50", "/slow?seconds=40", "/events", "/events")
                held = [asyncio.create_task(_read(web, house + path)) for path in paths]
                sockets = [await web.ws_connect(f"{house}/talk") for _ in range(2)]
                held.append(asyncio.create_task(_read(web, "http://{}:{}/drain/wait".format(*proxy.admin))))
                await asyncio.sleep(1)
                assert (await _output(*command("drain"), socket=proxy.control_socket)) == 0
                for caller in callers[1:]:
                    await asyncio.sleep(LEAVES_S)
                    caller.cancel()
                await asyncio.sleep(SEEN_S - LEAVES_S * (CALLERS - 1))
                held.append(callers[0])
                yield proxy
                for task in held:
                    task.cancel()
                await asyncio.gather(*held, return_exceptions=True)
                for socket in sockets:
                    await socket.close()
        finally:
            app.kill()
            await app.wait()


async def _read(web: aiohttp.ClientSession, address: str) -> None:
    async with web.get(address, timeout=aiohttp.ClientTimeout(None)) as answer:
        await answer.read()


async def _come(house: str) -> None:
    """One connection a request, as a Service sends them."""
    while True:
        async with aiohttp.ClientSession() as web, web.get(house) as answer:
            await answer.read()
        await asyncio.sleep(0.25)


async def _output(*words: str, socket: str) -> int:
    child = await asyncio.create_subprocess_exec(*words, env=environment(DRAINPROXY_CONTROL_SOCKET=socket))
    return await child.wait()


async def status_page(browser: Browser) -> None:
    """The page in mid drain, on a desk and on a phone at night."""
    screens = {
        "status-page.png": {"viewport": {"width": 1100, "height": 900}},
        "status-page-phone.png": {
            "viewport": {"width": 375, "height": 812},
            "color_scheme": "dark",
            "device_scale_factor": 2,
        },
    }
    async with draining() as proxy:
        for name, screen in screens.items():
            page = await browser.new_page(**screen)
            await page.goto("http://{}:{}/".format(*proxy.admin))
            await page.wait_for_selector("li.now:text('propagating')")
            await page.screenshot(path=HERE / name)
            await page.close()


async def status_watch(browser: Browser) -> None:
    """The live view of the same in a terminal."""
    columns = 96
    async with draining() as proxy:
        words = ("status", "--watch")
        admin = ("--admin", "{}:{}".format(*proxy.admin))
        text = await written(*words, *admin, columns=columns, seconds=3)
    frame = max(REDRAWN.split(text)[1:-1], key=len)
    await photograph(browser, "status-watch.png", "drainproxy status --watch", frame, columns)


async def demo(browser: Browser) -> None:
    """The demo's tables, as they stand at its end."""
    columns = 84
    words = ("demo", "--lag", "7s")
    text = await written(*words, columns=columns, seconds=DEMO_S)
    title, *_, end = REDRAWN.split(text)
    title = "\n".join(title.splitlines()[:2])
    await photograph(browser, "demo.png", "drainproxy " + " ".join(words), f"{title}\n{end}", columns)


PICTURES = {"status-page": status_page, "status-watch": status_watch, "demo": demo}


async def main() -> None:
    """Take those that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(PICTURES)}")
    names = parser.parse_args().names or PICTURES
    async with async_playwright() as tools:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await tools.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        for name in names:
            await PICTURES[name](browser)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
