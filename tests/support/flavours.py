"""Tests of what compiling seals: one that replaces it, or inherits from it, is for the sources alone."""

from __future__ import annotations

import pytest

from drainproxy import flavour


def of_sources(why: str) -> pytest.MarkDecorator:
    """Leave a test out where compiled rooms are installed; `why` says what it needs of the sources."""
    return pytest.mark.skipif(flavour.current() == "compiled", reason=f"of the sources: {why}")
