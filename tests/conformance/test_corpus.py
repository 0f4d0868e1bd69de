"""The own cases against the proxy as a process: whole, byte by byte, and with bytes behind them."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.conformance import corpus, outcome
from tests.conformance.group import Group
from tests.conformance.outcome import Tally
from tests.conformance.proxies import Drainproxy

if TYPE_CHECKING:
    from pathlib import Path

SUITES = corpus.load()


@pytest.mark.parametrize("chapter", SUITES)
async def test_the_own_cases_hold(chapter: str):
    """Every case of the chapter holds, in every way, and the process is back where it was afterwards."""
    suite = SUITES[chapter]
    group = Group(partial(Drainproxy, suite.arguments), {}, splits=True)
    outcomes = await group.run(suite.cases)
    tally = Tally({chapter: outcomes}, {chapter: group.problems})
    assert not tally.failed, outcome.details(tally)


def test_every_case_says_its_rule_in_a_sentence():
    """A case is named in small letters, cites a section, and says what is asked of a proxy."""
    for suite in SUITES.values():
        for case in suite.cases:
            assert re.fullmatch(r"[a-z]+(-[a-z]+)*/[a-z0-9]+(-[a-z0-9]+)*", case.name), case.name
            assert case.rule.endswith("."), case.name


@pytest.mark.parametrize(
    "broken",
    [
        'request = "GET / HTTP/1.1\\n\\n"',
        'class = "must-sing"\nrfc = "9112 3"\nsays = "."',
        'class = "may-accept"\nrfc = "9112"\nsays = "."',
        'class = "may-accept"\nrfc = "9112 3"\nsays = "."\nbites = "GET"',
    ],
)
def test_a_broken_case_is_no_case(tmp_path: Path, broken: str):
    """A table without its keys, with an unknown class or key, or without a section is refused."""
    (tmp_path / "own.toml").write_text(f"[case]\n{broken}\n")
    with pytest.raises(ValueError, match=r"own\.toml: case"):
        corpus.load(tmp_path)


def test_line_ends_are_crlf_except_where_bytes_are_exact(tmp_path: Path):
    """`request` is text, `bytes` is what it says, and pieces may be repeated."""
    head = 'says = "."\nrfc = "9112 3"\nclass = "may-accept"\n'
    text = f"[text]\n{head}request = '''\nGET / HTTP/1.1\nHost: shop\n\n'''\n"
    exact = f'[exact]\n{head}bytes = ["a\\n", {{ of = "b", times = 3 }}, "\\u00ff"]\n'
    (tmp_path / "own.toml").write_text(text + exact)
    one, two = corpus.load(tmp_path)["own.toml"].cases
    assert one.sent == b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
    assert two.sent == b"a\nbbb\xff"


def test_no_file_of_cases_is_left_out():
    """What lies in the directory is what runs."""
    assert set(SUITES) == {path.name for path in corpus.OWN.iterdir()}
