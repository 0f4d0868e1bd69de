"""Work of a test's own on the books of what is in flight, for the length of a block."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.lifecycle.inflight import InFlight, Work


@contextlib.contextmanager
def hold(inflight: InFlight, work: Work) -> Iterator[None]:
    """Keep a drain waiting for `work`."""
    inflight.add(work)
    try:
        yield
    finally:
        inflight.discard(work)
