"""Where a row plays: drainproxy processes that can be looked into, and what is asked of each at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.integration.scene import until
from tests.support.process import Proxy, metrics
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.chaos.row import Evidence

LINES_A_SECOND = 10
"""For one condition (log.py). A second of the log's stamps may hold parts of two of the limit's own."""
TASK = ("_asyncio.Task", "asyncio.tasks.Task")
FRESH = {"settle": "100ms", "linger": "200ms", "access_log": "errors"}
"""What ends soon and changes nothing that is looked at."""

_Value = TypeVar("_Value")


class Watched(Proxy):
    """The process, and a window into it (inside.py)."""

    def __init__(self, *, env: dict[str, str] | None = None, **how: Any) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="window-")
        self._window = Path(self._place.name) / "counts"
        super().__init__(env={**(env or {}), "WINDOW": str(self._window)}, **how)
        # The window is a module of the tests, which lie where this is run.
        self._env.pop("PYTHONSAFEPATH", None)
        self._command = ["tests.chaos.inside" if word == "drainproxy" else word for word in self._command]

    async def lives(self) -> dict[str, int]:
        """Return how many objects of each kind live."""
        return await self._through_the_window(signal.SIGUSR1)

    async def in_use_bytes(self) -> int:
        """Return what it has of the C library, whether it is resident or not."""
        return (await self._through_the_window(signal.SIGUSR2))["in_use"]

    async def _through_the_window(self, ask: signal.Signals) -> dict[str, int]:
        # Who asked before, and was cancelled, may be answered only now: each question has its own answer.
        file = self._window.with_suffix(f".{ask.name}")
        file.unlink(missing_ok=True)
        self.signal(ask)
        await until(file.exists, "nothing is seen through the window")
        counts: dict[str, int] = json.loads(file.read_text())
        return counts

    async def baseline(self) -> Baseline:
        """Return what it has open and alive now."""
        return Baseline(self.descriptors(), await self.lives())

    def dirty_bytes(self) -> int:
        """Return the memory that it has written to and shares with nobody, see `private_dirty_bytes`."""
        return private_dirty_bytes(self.pid)

    async def _end(self) -> None:
        await super()._end()
        self._place.cleanup()


class Baseline:
    """Descriptors and objects at one moment; `excess` says what a later one has more."""

    def __init__(self, descriptors: int, lives: dict[str, int]) -> None:
        self.descriptors = descriptors
        self.lives = lives

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return sum(self.lives.get(name, 0) for name in TASK)

    @property
    def ours(self) -> int:
        """How many objects there are of the program's own kinds, made since it began to serve."""
        return sum(count for name, count in self.lives.items() if name.startswith("drainproxy."))

    def excess(self, before: Baseline) -> dict[str, int]:
        """Return each kind of which there are more than before: of the program's own, and descriptors."""
        now = {**self.lives, "descriptors": self.descriptors}
        then = {**before.lives, "descriptors": before.descriptors}
        more = {name: count - then.get(name, 0) for name, count in now.items()}
        return {name: count for name, count in more.items() if count > 0 and _judged(name)}


def _judged(name: str) -> bool:
    return name.startswith(("drainproxy.proxy.", "descriptors", "uvloop.loop.TCP", *TASK)) or name.endswith(
        # Not its timers: asyncio keeps up to a hundred that were cancelled until they would have been due.
        "_SelectorSocketTransport"
    )


def private_dirty_bytes(pid: int) -> int:
    """Return what a process has written to and shares with nobody (proc(5): smaps_rollup), swapped pages too.

    Clean private pages are left out: those of a file are shared as soon as another process maps it.
    """
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    fields = dict(re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE))
    return 1024 * sum(int(fields[name]) for name in ("Private_Dirty", "Swap"))


class Ground:
    """`async with Ground("uvloop", short=True) as ground:`; every process has ended with the block."""

    def __init__(self, loop: str, *, short: bool) -> None:
        self.loop = loop
        self.short = short
        self.stack = contextlib.AsyncExitStack()
        self.proxies: list[Watched] = []
        self.seen: list[dict[str, float]] = []
        """Metrics, as evidence."""
        self.tolerated: tuple[str, ...] = ()
        """How lines of libraries begin that say nothing but what the row does."""
        self.said: list[dict[str, Any]] = []
        """Log lines of processes that were not started here."""

    async def __aenter__(self) -> Ground:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    def pick(self, full: _Value, short: _Value) -> _Value:
        """Return the one that is asked for."""
        return short if self.short else full

    async def start(self, *upstreams: str, ready: bool = True, **how: Any) -> Watched:
        """Run a process; settings as of Proxy."""
        proxy = Watched(upstreams=upstreams, loop=self.loop, **{**FRESH, **how})
        self.proxies.append(proxy)
        await self.stack.enter_async_context(proxy)
        if ready:
            await proxy.ready()
        return proxy

    async def books(self, admin: Proxy | tuple[str, int]) -> dict[str, float]:
        """Return a process's metrics, and keep them as evidence."""
        self.seen.append(await metrics(admin.admin if isinstance(admin, Proxy) else admin))
        return self.seen[-1]

    async def settled(self, proxy: Watched, before: Baseline, within_s: float) -> float:
        """Wait until a process has no more than before; return after how many seconds."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while excess := (await proxy.baseline()).excess(before):
            assert loop.time() - began < within_s, f"after {within_s:g} s there are more: {excess}"
            await asyncio.sleep(0.1)
        return loop.time() - began

    async def end(self, evidence: Iterable[Evidence]) -> None:
        """End what still runs, as a pod's end does; every process must have behaved."""
        for proxy in self.proxies:
            if proxy._child.returncode is None:
                await self.books(proxy)
                proxy.signal()
            assert await proxy.exit_code(PATIENCE_S) == 0
            complaints = [
                line
                for line in proxy.lines
                if line["event"] in {"defect", "library"}
                and not str(line.get("message", "")).startswith(self.tolerated)
            ]
            assert not complaints, f"the process complained: {complaints[:3]}"
            assert proxy._child.stderr is not None
            said = (await proxy._child.stderr.read()).decode()
            assert not said, f"it wrote to stderr: {said[-1000:]}"
            flood = _most_a_second(proxy.lines)
            assert flood <= 2 * LINES_A_SECOND, f"{flood} lines of one condition in a second"
        for each in evidence:
            self._shown(each)

    def _shown(self, evidence: Evidence) -> None:
        event, _, reason = (evidence.line or "").partition(": ")
        said = itertools.chain(self.said, *(proxy.lines for proxy in self.proxies))
        lines = [line for line in said if line["event"] == event]
        if event:
            assert [line for line in lines if reason in {"", line.get("reason")}], f"no line {evidence.line}"
        if evidence.series:
            found = [n for books in self.seen for name, n in books.items() if evidence.series in name]
            assert max(found, default=0.0) > 0, f"{evidence.series} is not counted: {found}"


def _most_a_second(lines: Iterable[dict[str, Any]]) -> int:
    """Return the most lines of one condition in one second."""
    warned = [line for line in lines if line["level"] != "info"]
    counts = Counter((line["event"], line.get("reason"), str(line["time"])[:19]) for line in warned)
    return max(counts.values(), default=0)
