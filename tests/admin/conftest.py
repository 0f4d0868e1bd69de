"""Admin tests run on both event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy.eventloop import Loop
from drainproxy.proxy.wire.selector import new_event_loop
from tests.admin.premises import Premises

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Name the loops."""
    return {"asyncio": new_event_loop, "uvloop": Loop}


@pytest.fixture
async def premises(tmp_path: Path) -> AsyncIterator[Premises]:
    """An admin server that listens, over a lifecycle in which the application answers."""
    premises = Premises(tmp_path)
    await premises.open()
    yield premises
    await premises.close()
