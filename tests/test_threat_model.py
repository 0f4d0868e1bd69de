"""docs/threat-model.md: each control names tests that exist, and no room is left out."""

from __future__ import annotations

import re

from tests.support.manual import TEST, claims, missing, page

MODEL = page("threat-model.md")
ROOMS = {
    "The proxy": "STRID",
    "The lifecycle": "TD",
    "The admin port and the control socket": "STRIDE",
    "The cluster's word": "STRIDE",
    "The injector": "STRIDE",
    "The command line": "TRE",
    "Image, chart, release": "TRE",
}
"""Each chapter with controls, and the kinds of threat that it must answer."""


def test_every_control_names_its_tests():
    """One at least, and nothing but tests: what has none is recommended, or left to others."""
    assert len(claims(MODEL)) > 50
    for row in claims(MODEL):
        assert len(row) == 4, row
        assert all(TEST.fullmatch(proof) for proof in row[-1].split(", ")), row


def test_every_test_that_is_named_exists():
    """A test that was renamed takes its line in the model along."""
    assert missing(MODEL) == []


def test_each_room_answers_its_kinds_of_threat():
    """A letter of STRIDE that a room had is not lost by accident."""
    chapters = dict(re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", MODEL, re.MULTILINE | re.DOTALL))
    for room, letters in ROOMS.items():
        assert {row[0] for row in claims(chapters[room])} == set(letters), room


def test_a_test_that_is_not_there_is_found():
    """A page that is checked by what cannot fail is not checked."""
    text = "`test_threat_model.py::test_nobody_wrote_it`, `no_such_file.py::test_it`"
    assert missing(text) == ["no_such_file.py::test_it", "test_threat_model.py::test_nobody_wrote_it"]
