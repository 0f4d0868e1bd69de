"""Ledger: which orders the application really processed, compared with what the callers were told."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Orders:
    processed: int  # different orders
    duplicated: int  # orders processed more than once
    missing: int  # orders a caller was told of as done, and which were never processed


def read_orders(ledger: Path, *, crowd: str, acknowledged: set[str]) -> Orders:
    """The orders of one crowd, whose keys begin with its name; call it when nobody orders any more."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    lines = [line for line in lines if line.startswith(f"{crowd}/")]
    times = Counter(lines)
    return Orders(
        processed=len(times),
        duplicated=sum(1 for count in times.values() if count > 1),
        missing=len(acknowledged - times.keys()),
    )
