"""Plays rows, one after the other, each on its event loops."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING

from drainproxy.proxy.limits.capacity import raise_descriptors
from tests.chaos.ground import Ground
from tests.chaos.row import ROWS, Measured, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_ROW_S = 240.0
"""A row that hangs has failed."""
ROOMS = (
    *("signals", "application", "fallen", "restarts", "pools", "clients", "hogs", "limits", "cluster"),
    *("successors", "pods_ends", "balancers"),
)


def rows() -> list[Row]:
    """Return every row, in the order of the table."""
    for room in ROOMS:
        import_module(f"tests.chaos.rows_{room}")
    return ROWS


async def played(row: Row, loop: str, *, short: bool) -> Measured:
    """Play one row. Raises where it does not hold."""
    raise_descriptors()
    async with asyncio.timeout(MAX_ROW_S), Ground(loop, short=short) as ground:
        measured = await row.play(ground)
        await ground.end(row.evidence)
    assert row.holds(measured, patient=short), (
        f"{measured.value:g} {row.unit}, more than {row.most:g}: {measured.of}"
    )
    return measured


def plays(chosen: Iterable[Row], loops: Iterable[str]) -> Iterator[tuple[Row, str]]:
    """Each row on each loop that it matters on."""
    wanted = set(loops)
    for row in chosen:
        yield from ((row, loop) for loop in row.loops if loop in wanted)
