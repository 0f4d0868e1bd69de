"""drainproxy with a window: at SIGUSR1 it writes how many objects of each kind live, to the file WINDOW.

What the program does is not touched. The collector runs first: a cycle that nobody holds is no leak. What was
there when it began to serve is frozen (app.py) and does not count.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

ROOMS = ("drainproxy", "asyncio", "_asyncio", "uvloop", "ssl", "_ssl", "socket", "aiohttp")


def look(*_: object) -> None:
    """Write the counts, in one step for whoever reads."""
    gc.collect()
    everything = gc.get_objects()
    kinds = Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in map(type, everything))
    known = {name: count for name, count in kinds.items() if name.startswith(ROOMS)}
    file = Path(os.environ["WINDOW"])
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({**known, "objects": len(everything)}))
    fresh.replace(file)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, look)
    # What is installed, compiled or not, and not the sources that lie where this was started.
    del sys.path[0]
    from drainproxy.__main__ import main

    sys.exit(main())
