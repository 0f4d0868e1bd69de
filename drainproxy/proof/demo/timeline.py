"""Timeline: a lane's life as one line of characters, a cell for each half second around the signal.

The live view and the final report draw the same timelines, so all lanes stand on one clock.
"""

import math
from collections.abc import Iterable

from rich.text import Text

CELL_S = 0.5
BEFORE_S = 2.0
AFTER_S = 18.0
CELLS = math.ceil((BEFORE_S + AFTER_S) / CELL_S)

_MARKS_S = (0, 5, 10, 15)


def ruler() -> Text:
    """Seconds from the signal, each over its cell."""
    cells = [" "] * CELLS
    for mark_s in _MARKS_S:
        at = _cell(mark_s)
        label = str(mark_s) if mark_s else "0 SIGTERM"
        cells[at : at + len(label)] = label
    return Text("".join(cells), style="dim")


def timeline(*, until_s: float, gone_s: float | None, lost_s: Iterable[float], ascii_only: bool) -> Text:
    """`until_s` is now, `gone_s` when the old pod was gone, `lost_s` when lost requests were sent.

    All in seconds from the signal, negative before it.
    """
    both, one, lost = ("=", "-", "x") if ascii_only else ("\u2501", "\u2500", "\u2573")
    losing = {_cell(at) for at in lost_s}
    text = Text()
    for cell in range(CELLS):
        if cell in losing:
            text.append(lost, style="bold red")
        elif cell > _cell(until_s):
            text.append(" ")
        elif gone_s is None or cell <= _cell(gone_s):
            text.append(both, style="green")
        else:
            text.append(one, style="dim")
    return text


def legend(*, ascii_only: bool) -> Text:
    both, one, lost = ("=", "-", "x") if ascii_only else ("\u2501", "\u2500", "\u2573")
    return Text.assemble(
        (both, "green"),
        " old and new pod  ",
        (one, "dim"),
        " old pod gone  ",
        (lost, "bold red"),
        " requests lost  (seconds)",
        style="dim",
    )


def _cell(at_s: float) -> int:
    return min(CELLS - 1, max(0, math.floor((at_s + BEFORE_S) / CELL_S)))
