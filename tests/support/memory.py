"""How much memory does something leave behind?"""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def kept_by(act: Callable[[], None]) -> int:
    """Return how many bytes are held after `act` that were not before."""
    tracemalloc.start()
    try:
        act()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
