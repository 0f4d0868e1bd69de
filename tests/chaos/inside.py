"""drainproxy with a window: what it writes to a file when it is asked, WINDOW.SIGUSR1 or WINDOW.SIGUSR2.

At SIGUSR1 how many objects of each kind live, at SIGUSR2 how many bytes of memory are in use. What the
program does is not touched. Before objects are counted the collector runs: a cycle that nobody holds is no
leak. What was there when it began to serve is frozen (app.py) and does not count.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

ROOMS = ("drainproxy", "asyncio", "_asyncio", "uvloop", "ssl", "_ssl", "socket", "aiohttp")

REMEMBERED = "drainproxy.proxy.message.field_names.FieldName"
"""No leak: so many are kept and no more, which tests/proxy/test_heads.py sees to."""


def look(*_: object) -> None:
    """Write the counts."""
    gc.collect()
    everything = gc.get_objects()
    kinds = Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in map(type, everything))
    del kinds[REMEMBERED]
    known = {name: count for name, count in kinds.items() if name.startswith(ROOMS)}
    _show(signal.SIGUSR1, {**known, "objects": len(everything)})


class _Heap(ctypes.Structure):
    """struct mallinfo2 (mallinfo(3), glibc 2.33)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def weigh(*_: object) -> None:
    """Write how many bytes the C library has given out and not taken back, in its heap and beside it."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _Heap
    heap = ask()
    _show(signal.SIGUSR2, {"in_use": heap.uordblks + heap.hblkhd})


def _show(asked: signal.Signals, counts: dict[str, int]) -> None:
    """In one step, for whoever reads; each in a file of its own, as either may interrupt the other."""
    file = Path(f"{os.environ['WINDOW']}.{asked.name}")
    fresh = file.with_name(f"{file.name}.new")
    fresh.write_text(json.dumps(counts))
    fresh.replace(file)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, look)
    signal.signal(signal.SIGUSR2, weigh)
    # What is installed, compiled or not, and not the sources that lie where this was started.
    del sys.path[0]
    from drainproxy.__main__ import main

    sys.exit(main())
