"""The walks of docs/architecture.md name files and functions that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HOPS = re.findall(r"`(drainproxy/[\w/]+\.py)::([\w.]+)`", (ROOT / "docs/architecture.md").read_text())


def names_of(path):
    """Return every function and class of a file, methods as Class.method."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{one.name}"
                for one in node.body
                if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return found


def test_both_walks_are_there():
    """A page without hops would make the next test pass for nothing."""
    assert len(HOPS) > 30


@pytest.mark.parametrize(("file", "name"), HOPS)
def test_each_hop_exists(file, name):
    """A reader who follows the walk finds what it names."""
    assert name in names_of(ROOT / file)
