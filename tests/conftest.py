"""What tests of every room may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy import flavour

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.authority import Authority

# Before a test imports anything that is compiled: what is installed is what is tested, whichever it is.
flavour.choose()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs the certificates of one test; its files lie in `tmp_path`."""
    from tests.support.authority import Authority

    return Authority(tmp_path)
