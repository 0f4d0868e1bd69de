"""Tests with sockets run on both event loops; tests without a loop run once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.eventloop import Loop
from drainproxy.proxy.wire.selector import new_event_loop

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping

    import pytest


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Name the loops. A test that chooses the loop of a process needs no second one of its own."""
    if "loop" in getattr(item, "fixturenames", ()):
        return {"asyncio": new_event_loop}
    return {"asyncio": new_event_loop, "uvloop": Loop}
