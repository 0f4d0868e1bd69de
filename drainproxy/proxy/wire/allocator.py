"""What the C library's allocator is told, where it can be told: glibc's can (mallopt(3), malloc_trim(3)).

It gives the top of its heap back to the kernel after every large body, and has it filled with zeros again for
the next one: three quarters of what an upload costs. So it keeps some megabytes, unless the environment tells
it something else. The interpreter's objects are there too, unless somebody has chosen otherwise
(__main__.py). Called by cli/main.py, which knows the environment, by buffers.py and garbage.py.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

SETTINGS: Final = {
    "MALLOC_ARENA_MAX": 1,
    "MALLOC_TOP_PAD_": 4 << 20,
    "MALLOC_TRIM_THRESHOLD_": 8 << 20,
    "MALLOC_MMAP_THRESHOLD_": 1 << 20,
}
"""By the names that the environment has for them; the image's are the same. Threads, which look names up and
read files, wait for the interpreter's lock anyway: a heap each would only be more to keep."""

_NUMBERS: Final = {
    "MALLOC_ARENA_MAX": -8,
    "MALLOC_TOP_PAD_": -2,
    "MALLOC_TRIM_THRESHOLD_": -1,
    "MALLOC_MMAP_THRESHOLD_": -3,
}
"""M_ARENA_MAX, M_TOP_PAD, M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""

_LIBRARY: Final = ctypes.CDLL(None)
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def keep() -> None:
    """Have what large bodies need for a moment kept."""
    tell = getattr(_LIBRARY, "mallopt", None)
    # musl and others have a mallopt of no effect, or none.
    if tell is not None:
        for name, value in SETTINGS.items():
            tell(_NUMBERS[name], value)


def give_back() -> None:
    """Have what is free given back to the kernel: of what was held in small pieces nearly all would stay."""
    trim = getattr(_LIBRARY, "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """Return how much of this process's memory is there (proc(5), statm); 0 where nobody says it."""
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - twice a second
            return int(statm.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
