"""`drainproxy status [--watch]`: shows a proxy until it is gone.

Asks again and again, since a process that ends has no event to send. Called by cli/main.py.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from drainproxy.admin.status_view import render
from drainproxy.lifecycle.machine import Phase

EXIT_GONE = 69
"""EX_UNAVAILABLE of sysexits.h: the proxy went away and nobody saw it drained."""

FRAME_S = 0.25

MISSES = 3
"""Answers in a row that may fail before the proxy counts as gone: it may only be busy."""

MIN_WORKS = 3
OTHER_LINES = 18
"""Lines of a frame at most, without the rows of work: what the terminal has beyond is theirs."""


def watch(fetch: Callable[[], Mapping[str, Any]]) -> int:
    """Show the proxy until it is gone; return the exit code. `fetch` raises OSError where none answers."""
    console = Console()
    seen: Mapping[str, Any] = {}
    misses = 0
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while misses < MISSES:
                if misses or seen:
                    time.sleep(FRAME_S)
                try:
                    seen = fetch()
                except OSError:
                    misses += 1
                    continue
                misses = 0
                works = max(MIN_WORKS, console.height - OTHER_LINES)
                live.update(render(seen, max_works=works), refresh=True)
            if seen:
                live.update(render(seen, gone=True), refresh=True)
    except KeyboardInterrupt:
        return 0
    if not seen:
        console.print(Text("gone: no proxy answers", style="red"))
    return 0 if seen.get("phase") == Phase.DRAINED and seen.get("report") else EXIT_GONE
