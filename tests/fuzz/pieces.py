"""Bytes cut anywhere, as a network may."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """Cut bytes at these places."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        if start < stop:
            yield data[start:stop]
