"""The few cases whose label the RFC overrides, each with its section and its reason.

Names only: the data stays outside the project.  An exception changes the class or the rule on
reuse; every invariant still holds.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("exceptions.toml")


@dataclass(frozen=True, slots=True)
class Override:
    """What holds instead of the label, and why."""

    rfc: str
    why: str
    klass: str = ""  # the class that holds instead
    may_reuse: bool = False  # the connection to the application may be used again


def load(path: Path = TABLE) -> dict[str, Override]:
    """Read the table; ValueError for an entry without a section and a reason."""
    found = {}
    for name, row in tomllib.loads(path.read_text(encoding="utf-8")).items():
        if not row.get("rfc") or not row.get("why"):
            raise ValueError(f"exception {name!r} needs rfc and why")
        found[name] = Override(
            rfc=row["rfc"], why=row["why"], klass=row.get("class", ""), may_reuse=row.get("may_reuse", False)
        )
    return found
