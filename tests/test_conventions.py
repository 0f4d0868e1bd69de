"""What every file of the project keeps to, and no linter looks for."""

from __future__ import annotations

import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("drainproxy", "tests", "bench", "docs", "helm")
REASONED = re.compile(r"# noqa: [A-Z]+[0-9]+(, [A-Z]+[0-9]+)* - \S")


def test_what_the_linter_is_told_to_overlook_has_a_reason():
    """On its line, behind the rule's name: whoever reads it knows what would change it."""
    bare = []
    for path in (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))):
        with path.open("rb") as file:
            bare += [
                f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}"
                for token in tokenize.tokenize(file.readline)
                if token.type == tokenize.COMMENT
                and "noqa" in token.string
                and not REASONED.search(token.string)
            ]
    assert bare == []
