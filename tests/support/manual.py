"""What a page of the manual claims, and the tests that it names as proof."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEST = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")


def page(name: str) -> str:
    """Return a page of docs/."""
    return (ROOT / "docs" / name).read_text("utf-8")


def claims(text: str) -> list[list[str]]:
    """Return the rows of the tables whose last column is called proof."""
    rows, proven = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            proven = False
        elif cells[-1] == "proof":
            proven = True
        elif proven and not line.startswith("| ---"):
            rows.append(cells)
    return rows


def missing(text: str) -> list[str]:
    """Return the tests that a page names and that are not there."""
    named = {(file, name) for file, name in TEST.findall(text)}
    return [f"{file}::{name}" for file, name in sorted(named) if not _is_there(file, name)]


def _is_there(file: str, name: str) -> bool:
    path = ROOT / "tests" / file
    source = path.read_text("utf-8") if path.is_file() else ""
    return re.search(rf"^\s*(?:async )?def {name}\(", source, re.MULTILINE) is not None
