"""What a process that serves a pod does not pay for: modules it never uses, and waking for nothing."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from pathlib import Path

from drainproxy.proxy.upstream.probe import QUIET_S
from drainproxy.tasks import TICK_S
from tests.kube.cluster import pod

IDLE_S = 10.0

MAX_ABOVE_BARE_BYTES = 12_000_000
"""Private and dirty. 9.9 MB with uvloop on CPython 3.11, 2026-11-29; with aiohttp it was 18."""

TIER = "slices+pod+events"

NEVER = {
    "aiohttp": "the webhook's, and 12 MB",
    "argparse": "for flags; a pod has its settings in its environment",
    "attr": "aiohttp's",
    "email": "for dates and MIME, half a megabyte",
    "html": "a table of every entity",
    "http.client": "the library's of http.server",
    "http.cookies": "nobody here keeps any",
    "http.server": "beside prometheus_client's exposition",
    "idna": "names of hosts come encoded",
    "kubernetes_asyncio": "reads kubeconfigs, and 37 MB with its models",
    "multiprocessing": "one process",
    "opentelemetry": "for trace_endpoint",
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
