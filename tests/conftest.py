"""What tests of every room may ask for."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

import pytest

from drainproxy import flavour

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.authority import Authority

# Before a test imports anything that is compiled: what is installed is what is tested, whichever it is.
flavour.choose()
if os.environ.get("COLLECT_OFTEN"):
    # So that an object that was freed in somebody's hands is met here, and not a day later (decision 0023).
    gc.set_threshold(5, 2, 2)


def pytest_configure(config: pytest.Config) -> None:
    """What mypyc's coroutines do where an error goes through them is not ours to mend, and works as ever."""
    if flavour.current() == "compiled":
        throw = r"ignore:the \(type, exc, tb\) signature of throw\(\) is deprecated:DeprecationWarning"
        config.addinivalue_line("filterwarnings", throw)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs the certificates of one test; its files lie in `tmp_path`."""
    from tests.support.authority import Authority

    return Authority(tmp_path)
