"""Each row of the chaos suite in its short form; `make chaos` plays them in full, on both event loops."""

from __future__ import annotations

import pytest

from tests.chaos.run import played, rows


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name.replace(" ", "-"))
async def test_a_row_holds(row):
    """Its number keeps its bar, and the log and the metrics say what happened."""
    await played(row, "uvloop", short=True)
