"""The slope and its interval, against lines and noise whose slope is known."""

from __future__ import annotations

import random

import pytest

from tests.soak.trend import slope, student


@pytest.mark.parametrize(("freedom", "table"), [(5, 2.571), (10, 2.228), (28, 2.048), (100, 1.984)])
def test_students_quantile_is_that_of_the_tables(freedom: int, table: float) -> None:
    """To two digits, where it is used."""
    assert student(freedom) == pytest.approx(table, abs=0.01)


def test_a_line_has_its_slope_and_no_doubt() -> None:
    """A KiB a second is 60 KiB a minute."""
    found = slope([(at, 5e7 + 1024 * at) for at in range(0, 900, 5)])
    assert found.per_minute == pytest.approx(60 * 1024)
    assert found.high - found.low == pytest.approx(0, abs=1)


def test_the_interval_holds_the_true_slope_as_often_as_it_says() -> None:
    """Noise without a slope, three hundred times."""
    dice = random.Random(1)
    inside = 0
    for _ in range(300):
        found = slope([(at, 5e7 + dice.gauss(0, 1e5)) for at in range(0, 900, 5)])
        inside += found.low <= 0 <= found.high
    assert 270 <= inside <= 298


def test_too_short_a_series_has_no_slope() -> None:
    """Two blocks always fit a line."""
    with pytest.raises(ValueError, match="too few"):
        slope([(at, 1.0) for at in range(0, 60, 5)])
