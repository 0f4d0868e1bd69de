"""What tests of every room may ask for."""

from __future__ import annotations

import gc
import os
import resource
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
MOST_BYTES = 4 << 30
"""Of one process's own data. Whatever takes more has no end: it fails by itself, instead of taking the
machine's memory from every other test."""


def pytest_configure(config: pytest.Config) -> None:
    """Bound this process, and what it starts.

    What mypyc's coroutines do where an error goes through them is not ours to mend, and works as ever.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MOST_BYTES if hard == resource.RLIM_INFINITY else min(MOST_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    if flavour.current() == "compiled":
        throw = r"ignore:the \(type, exc, tb\) signature of throw\(\) is deprecated:DeprecationWarning"
        config.addinivalue_line("filterwarnings", throw)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Who signs the certificates of one test; its files lie in `tmp_path`."""
    from tests.support.authority import Authority

    return Authority(tmp_path)
