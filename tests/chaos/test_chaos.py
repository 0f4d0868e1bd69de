"""Each row of the chaos suite in its short form; `make chaos` plays them in full, on both event loops."""

from __future__ import annotations

import pytest

from tests.chaos.rows_signals import FAKETIME, jumps
from tests.chaos.run import played, rows


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name.replace(" ", "-"))
async def test_a_row_holds(row):
    """Its number keeps its bar, and the log and the metrics say what happened."""
    if row.play is jumps and FAKETIME is None:
        pytest.skip("needs libfaketime (Debian: libfaketime)")
    await played(row, "uvloop", short=True)
