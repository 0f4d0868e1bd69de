"""Nearly good bytes through every door, and the project's own cases: what must hold for any bytes holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz.doors import DOORS, OF_SOURCES
from tests.support.flavours import of_sources

EACH = [
    pytest.param(door, marks=of_sources(OF_SOURCES[door])) if door in OF_SOURCES else door for door in DOORS
]


@pytest.mark.parametrize("door", EACH)
def test_nearly_good_bytes_break_nothing(door: str):
    """Messages go on as they were meant or not at all, wherever their bytes were cut."""
    DOORS[door].explore(300)


@pytest.mark.parametrize("door", EACH)
def test_the_seeds_break_nothing(door: str):
    """The project's own cases are where the fuzzer begins."""
    seeds = DOORS[door].seeds()
    assert seeds
    for seed in seeds:
        DOORS[door].check(seed, [3, 30, 300])


def test_a_broken_invariant_is_found_and_told(monkeypatch, capsys):
    """The command fails, and says at which door."""

    def no_zero(data: bytes, cuts: list[int]) -> None:
        assert b"0" not in data

    monkeypatch.setitem(DOORS, "client", replace(DOORS["client"], check=no_zero))
    assert fuzz.with_hypothesis("client", 5) is False
    assert capsys.readouterr().out.startswith("client: ")


def test_time_is_kept(capsys):
    """Without a find it ends when its time is over."""
    assert fuzz.with_hypothesis("application", 1) is True
    assert "inputs" in capsys.readouterr().out


@pytest.mark.parametrize("start", [b"HTTP/1.1 103 Early Hints\r\n", b""], ids=["interim", "final"])
def test_what_passes_on_purpose_is_no_find(start: bytes):
    """DEL in a value of an answer: docs/http.md says so, of interim answers too."""
    interim = start + b"Link:\x7fa\r\n\r\n" if start else b""
    DOORS["application"].check(
        interim + b"HTTP/1.1 200 OK\r\nX:\x7fa\r\nContent-Length: 2\r\n\r\nok", [3, 30]
    )
