"""The slope of a series of samples, and how sure it is: least squares over the means of blocks.

Samples that follow one another closely are alike, which would make the interval too narrow; so what lies in
one block counts once. Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK_S = 30.0
CONFIDENCE = 0.95
MIN_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Slope:
    """Bytes a minute, and the ends of the interval that holds the true slope in 95 of 100 cases."""

    per_minute: float
    low: float
    high: float


def slope(samples: Sequence[tuple[float, float]], block_s: float = BLOCK_S) -> Slope:
    """Return the slope of (seconds, bytes); raises ValueError if they fill fewer than MIN_BLOCKS blocks."""
    blocks: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for at_s, value in samples:
        blocks[int((at_s - samples[0][0]) // block_s)].append((at_s, value))
    if len(blocks) < MIN_BLOCKS:
        raise ValueError(f"{len(blocks)} blocks are too few for a slope")
    xs = [fmean(at_s for at_s, _ in block) / 60 for block in blocks.values()]
    ys = [fmean(value for _, value in block) for block in blocks.values()]
    mean_x, mean_y = fmean(xs), fmean(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    found = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    freedom = len(xs) - 2
    rest = sum((y - mean_y - found * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    half = student(freedom) * math.sqrt(rest / freedom / spread)
    return Slope(found, found - half, found + half)


def student(freedom: int) -> float:
    """Return the two-sided quantile of Student's t (Abramowitz and Stegun 26.7.5, four terms)."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
