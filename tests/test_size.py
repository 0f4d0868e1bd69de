"""A newcomer finds a subject by its file and reads it in one go: no long file or function, no full folder."""

import ast
from collections import Counter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "drainproxy"
SOURCES = {path.relative_to(PACKAGE): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_FOLDER_FILES = 20


def test_no_file_is_long():
    """It has one subject, and fits on a few screens with its comments."""
    lengths = {str(path): len(source.splitlines()) for path, source in SOURCES.items()}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_no_folder_is_full():
    """Its files are seen at one glance, and each has its place among them."""
    files = Counter(str(path.parent) for path in SOURCES)
    assert {folder: count for folder, count in files.items() if count > MAX_FOLDER_FILES} == {}


def test_no_function_is_long():
    """It does one thing, and can be held in the head."""
    long = [
        f"{path}: {node.name}"
        for path, source in SOURCES.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
        # A table that is filled line by line is read as one.
        and not all(isinstance(step, ast.Assign | ast.Expr) for step in node.body)
    ]
    assert long == []
