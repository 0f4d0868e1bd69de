"""Durations with units, both ways."""

import argparse

import pytest

from drainproxy.proof.durations import duration, shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0), ("0.5s", 0.5), (" 7s ", 7.0)],
)
def test_a_duration_has_a_unit(text, seconds):
    """What the manual shows is understood."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "", "s", "-1s", "1 s", "1d", "1s2", "0x1s", "1e3s"])
def test_anything_else_is_refused_with_an_example(text):
    """A bare number least of all: nobody remembers which unit it was."""
    with pytest.raises(argparse.ArgumentTypeError, match="write 30s"):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00085, "850 us"),
        (0.0123, "12.3 ms"),
        (0.4321, "432 ms"),
        (4.12, "4.1 s"),
        (125.0, "2m 05s"),
        (0.0, "0 us"),
    ],
)
def test_a_person_reads_three_digits(seconds, text):
    """The unit follows the size."""
    assert shown(seconds) == text
