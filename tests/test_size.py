"""A newcomer reads the package in an afternoon: no long file, no long function, no more code than now."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "drainproxy"
SOURCES = {path.relative_to(PACKAGE): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_CODE_LINES = 12_770
"""Of the package; to be lowered with it. docs/decisions/0015-size.md says why it is not 7,500."""


def code_lines(source: str) -> int:
    """Count the lines that are no comment, no docstring and not blank."""
    said = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                said |= set(range(node.lineno, node.end_lineno + 1))
    return sum(
        number not in said and not line.lstrip().startswith("#")
        for number, line in enumerate(source.splitlines(), 1)
        if line.strip()
    )


def test_only_code_is_counted():
    """Comments, docstrings of any length and blank lines are none."""
    assert code_lines('"""One.\n\nTwo."""\n\n# three\nx = """\nfour\n"""  # five\n') == 3


def test_no_file_is_long():
    """It has one subject, and fits on a few screens with its comments."""
    lengths = {str(path): len(source.splitlines()) for path, source in SOURCES.items()}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


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


def test_the_package_does_not_grow_unseen():
    """Whoever adds looks for what can go, or writes down why it may not."""
    assert len(SOURCES) > 100
    assert sum(map(code_lines, SOURCES.values())) <= MAX_CODE_LINES
