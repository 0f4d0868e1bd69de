"""What a process that serves a pod does not pay for: modules it never uses, and waking for nothing."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from pathlib import Path

from drainproxy.proxy.upstream.probe import QUIET_S
from drainproxy.proxy.wire.allocator import SETTINGS
from drainproxy.tasks import TICK_S
from tests.kube.cluster import pod
from tests.support.process import Proxy

ROOT = Path(__file__).parents[2]

IDLE_S = 10.0

CHUNK_BYTES, CHUNKS = 0x10000, 1024

MAX_ABOVE_BARE_BYTES = 12_000_000
"""Private and dirty. 9.9 MB with uvloop on CPython 3.11, 2026-11-29; with aiohttp it was 18."""

TIER = "slices+pod+events+pod-cost"

NEVER = {
    "aiohttp": "the webhook's, and 12 MB",
    "argparse": "for flags; a pod has its settings in its environment",
    "attr": "aiohttp's",
    "email": "for dates and MIME, half a megabyte",
    "hashlib": "loads OpenSSL's digests",
    "html": "a table of every entity",
    "http.client": "the library's of http.server",
    "http.cookies": "nobody here keeps any",
    "http.server": "beside prometheus_client's exposition",
    "idna": "names of hosts come encoded",
    "kubernetes_asyncio": "reads kubeconfigs, and 37 MB with its models",
    "multiprocessing": "one process",
    "opentelemetry": "for trace_endpoint and metrics_push",
    "rich": "for people at a terminal",
    "tempfile": "urllib's",
    "urllib.request": "for proxies before the API server",
    "urllib3": "kubernetes_asyncio's",
    "wsgiref": "beside prometheus_client's exposition",
    "yaml": "for a settings file",
    "yarl": "aiohttp's",
    "zipfile": "importlib.resources'",
}


async def test_a_pods_process_loads_no_module_that_it_never_uses(tmp_path):
    """With everything on that the cluster is asked and told: probed, scraped, drained."""
    watched = {"PYTHONPROFILEIMPORTTIME": "1"}
    async with pod(tmp_path, rbac=TIER, bare=True, variables=watched) as it:
        await it.looked()
        for path in ("/readyz", "/metrics"):
            assert (await it.proxy.get(path)).status == 200
        await it.end()
        said = await it.proxy.said()
    loaded = set(re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", said, re.MULTILINE))
    assert "drainproxy.kube.transport" in loaded
    extra = {
        name: why
        for name, why in NEVER.items()
        if any(each == name or each.startswith(f"{name}.") for each in loaded)
    }
    assert extra == {}


async def test_what_a_pods_process_holds_is_bounded(tmp_path):
    """Probed and scraped. Counted above what asyncio and TLS alone hold, on whatever interpreter this is."""
    bare = private_dirty_bytes_of("import asyncio, ssl")
    async with pod(tmp_path, rbac=TIER, bare=True) as it:
        await it.looked()
        for path in ("/readyz", "/metrics"):
            assert (await it.proxy.get(path)).status == 200
        assert private_dirty_bytes(it.proxy.pid) - bare <= MAX_ABOVE_BARE_BYTES


async def test_an_idle_process_wakes_less_than_twice_a_second(tmp_path):
    """Whatever looks now and then does it at the same moment. A machine with no time for it wakes it less."""
    async with pod(tmp_path, rbac=TIER, bare=True) as it:
        await it.looked()
        # Its application has answered at first, after which it is looked after more closely for a while.
        await asyncio.sleep(QUIET_S + 2 * TICK_S)
        began, before = time.monotonic(), switches(it.proxy.pid)
        await asyncio.sleep(IDLE_S)
        woken = switches(it.proxy.pid) - before
        assert woken <= 2 * (time.monotonic() - began)


async def test_the_memory_of_a_large_body_is_not_asked_for_again_and_again():
    """The kernel fills each page with zeros that was given back: three quarters of what an upload cost."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A probe hangs up without a word.
        while (piece := await reader.read(2**20)) and not piece.endswith(b"\r\n0\r\n\r\n"):
            pass
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0, limit=2**20)
    host, port = server.sockets[0].getsockname()
    async with server, Proxy(upstreams=[f"http://{host}:{port}"], max_body_bytes="off") as proxy:
        await proxy.ready()
        reader, writer = await asyncio.open_connection(*proxy.addresses[0])
        writer.write(b"POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n")
        before = faults(proxy.pid)
        for _ in range(CHUNKS):
            writer.write(b"10000\r\n%b\r\n" % bytes(CHUNK_BYTES))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200")
        # Each page of the body once is 16 a chunk, and it goes through more than one buffer.
        assert faults(proxy.pid) - before <= 2 * CHUNKS
        writer.close()


def test_the_allocator_is_told_what_the_image_tells_it():
    """In one place or the other: what is measured without an image is what a pod gets."""
    said = (ROOT / "Dockerfile").read_text("utf-8")
    image = dict(re.findall(r"(MALLOC_\w+)=(\d+)", said))
    assert image == {name: str(value) for name, value in SETTINGS.items()}
    # Before the interpreter starts, which then need not begin again (__main__.py).
    assert " PYTHONMALLOC=malloc " in said


def faults(pid: int) -> int:
    """Return how often the kernel had to give a process a page (proc(5), minflt)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def switches(pid: int) -> int:
    """Return how often the threads of a process have gone to sleep (proc(5), voluntary_ctxt_switches)."""
    texts = [status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(
        int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.MULTILINE)[0]) for text in texts
    )


def private_dirty_bytes(pid: int | str) -> int:
    """Return what only this process holds, and the kernel cannot read again from a file."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(re.findall(r"^Private_Dirty:\s+(\d+) kB$", rollup, re.MULTILINE)[0])


def private_dirty_bytes_of(program: str) -> int:
    """Return the same of an interpreter that has run a line."""
    ask = "import pathlib; print(pathlib.Path('/proc/self/smaps_rollup').read_text())"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; {ask}"], capture_output=True, text=True, check=True
    )
    return 1024 * int(re.findall(r"^Private_Dirty:\s+(\d+) kB$", done.stdout, re.MULTILINE)[0])
