"""docs/http.md claims nothing without a proof, and no proof that it names is missing."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conformance import corpus

ROOT = Path(__file__).resolve().parent.parent
MANUAL = (ROOT / "docs" / "http.md").read_text("utf-8")
CASE = re.compile(r"`([a-z]+(?:-[a-z]+)*/[a-z0-9-]+)`")
TEST = re.compile(r"`([a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`")
CASES = {case.name for suite in corpus.load().values() for case in suite.cases}


def claims() -> list[list[str]]:
    """The rows of the tables whose last column is called proof."""
    rows, proven = [], False
    for line in MANUAL.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            proven = False
        elif cells[-1] == "proof":
            proven = True
        elif proven and not line.startswith("| ---"):
            rows.append(cells)
    return rows


def named() -> set[str]:
    """The cases that rows name."""
    return {name for row in claims() for name in CASE.findall(row[-1])}


def test_every_claim_names_its_proof():
    """The last cell of each row is a list of cases and tests, and of nothing else."""
    assert len(claims()) > 60
    for row in claims():
        proofs = row[-1].split(", ")
        unclear = [proof for proof in proofs if not (CASE.fullmatch(proof) or TEST.fullmatch(proof))]
        assert not unclear, row


def test_every_case_that_is_named_exists():
    """A case that was renamed takes its line in the manual along."""
    assert named() - CASES == set()


def test_every_case_proves_a_line():
    """A case of which the manual knows nothing is a promise that nobody reads."""
    assert CASES - named() == set()


def test_every_test_that_is_named_exists():
    """A test that was renamed takes its line in the manual along."""
    for file, name in TEST.findall(MANUAL):
        source = (ROOT / "tests" / file).read_text("utf-8")
        assert re.search(rf"^\s*(?:async )?def {name}\(", source, re.MULTILINE), f"{file}::{name}"
