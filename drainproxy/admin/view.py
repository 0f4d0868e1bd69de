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
from drainproxy.log import plain

EXIT_NOT_SERVED = 1
"""It drained, and not everybody was served."""
EXIT_GONE = 69
"""EX_UNAVAILABLE of sysexits.h: the proxy went away and nobody saw it drained."""

FRAME_S = 0.25

MISSES = 3
"""Answers in a row that may fail before the proxy counts as gone: it may only be busy."""

UP_WITHIN = 2400
"""Frames, ten minutes of them, in which a proxy that is not up yet may come."""

MIN_WORKS = 3
OTHER_LINES = 26
"""Lines of a frame at most, without the rows of work: what the terminal has beyond is theirs."""


def watch(fetch: Callable[[], Mapping[str, Any]], address: str) -> int:
    """Show the proxy at `address` until it is gone, from when it is up; return the exit code.

    `fetch` raises ConnectionError or TimeoutError where nobody answers, and OSError where it is no proxy.
    """
    console = Console()
    seen: Mapping[str, Any] = {}
    misses = asked = 0
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while misses < (MISSES if seen else UP_WITHIN):
                if asked:
                    time.sleep(FRAME_S)
                asked += 1
                try:
                    seen = fetch()
                except OSError as failure:
                    if not seen and not isinstance(failure, (ConnectionError, TimeoutError)):
                        raise
                    misses += 1
                    if not seen:
                        live.update(_nobody(address, failure), refresh=True)
                    continue
                misses = 0
                works = max(MIN_WORKS, console.height - OTHER_LINES)
                live.update(render(seen, max_works=works), refresh=True)
            if seen:
                live.update(render(seen, gone=True), refresh=True)
    except KeyboardInterrupt:
        return 0 if seen else EXIT_GONE
    if not seen:
        console.print(Text(f"no proxy has come up at {plain(address)}", style="red"))
        return EXIT_GONE
    if seen["phase"] != Phase.DRAINED or not seen.get("verdict"):
        return EXIT_GONE
    return 0 if seen["verdict"]["served"] else EXIT_NOT_SERVED


def _nobody(address: str, failure: OSError) -> Text:
    why = failure.strerror or str(failure)
    return Text(f"waits for a proxy at {plain(address)} to come up: {plain(why)}", style="yellow")
