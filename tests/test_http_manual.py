"""docs/http.md claims nothing without a proof, and no proof that it names is missing."""

from __future__ import annotations

import re

from tests.conformance import corpus
from tests.support.manual import TEST, claims, missing, page

MANUAL = page("http.md")
CASE = re.compile(r"`([a-z]+(?:-[a-z]+)*/[a-z0-9-]+)`")
CASES = {case.name for suite in corpus.load().values() for case in suite.cases}


def named() -> set[str]:
    """The cases that rows name."""
    return {name for row in claims(MANUAL) for name in CASE.findall(row[-1])}


def test_every_claim_names_its_proof():
    """The last cell of each row is a list of cases and tests, and of nothing else."""
    assert len(claims(MANUAL)) > 60
    for row in claims(MANUAL):
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
    assert missing(MANUAL) == []
