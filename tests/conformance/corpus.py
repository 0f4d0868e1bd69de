"""The project's own cases: TOML files in `own/`, one a chapter, one table a case.

A physical line end in `request`, `response` and what is expected stands for CRLF; `bytes` and
`response_bytes` are exact, and may be a list of pieces, `{ of = "a", times = 9 }` among them.
Text is Latin-1: a character is a byte.  A case is called `chapter/name`.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conformance.cases import CLASSES, Case, Expects, RequestCase, ResponseCase, Suite

OWN = Path(__file__).with_name("own")
ASKS = "GET /scripted HTTP/1.1\nHost: localhost\n\n"
RFC = re.compile(r"[0-9]{4} [0-9A-Z]+(\.[0-9]+)*")
KEYS = {
    "says", "rfc", "class", "policy", "request", "bytes", "response", "response_bytes", "after", "reuse",
    "status", "closes", "forwarded", "app_sees", "app_never_sees", "client_sees", "client_never_sees",
}  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Iterable


def load(directory: Path = OWN) -> dict[str, Suite]:
    """Read every *.toml file by file name; ValueError names the case that is no case."""
    return {path.name: read(path) for path in sorted(directory.glob("*.toml"))}


def read(path: Path) -> Suite:
    """Read one chapter."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    arguments = tuple(tables.pop("arguments", ()))
    listed = []
    for name, row in tables.items():
        try:
            listed.append(_case(f"{path.stem}/{name}", row))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path.name}: {name}: {error!r}") from error
    return Suite(listed, arguments)


def _case(name: str, row: dict[str, Any]) -> Case:
    if unknown := row.keys() - KEYS:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    if row["class"] not in CLASSES:
        raise ValueError(f"unknown class {row['class']!r}")
    if not all(RFC.fullmatch(section) for section in row["rfc"].split(", ")):
        raise ValueError(f"not an RFC and a section: {row['rfc']!r}")
    asked = _steps(row, "request", "bytes", ASKS)
    common: dict[str, Any] = {
        "name": name,
        "klass": row["class"],
        "expects": _expects(row),
        "rule": f"RFC {row['rfc']}: {row['says']}",
        "policy": row.get("policy", False),
    }
    if "response" not in row and "response_bytes" not in row:
        return RequestCase(steps=asked, **common)
    return ResponseCase(
        parts=_steps(row, "response", "response_bytes", ""),
        after=row.get("after", "keep"),
        method=asked[0].split(b" ")[0].decode(),
        request=b"".join(asked),
        may_reuse=row.get("reuse", False),
        **common,
    )


def _expects(row: dict[str, Any]) -> Expects:
    statuses = row.get("status", ())
    return Expects(
        statuses=(statuses,) if isinstance(statuses, int) else tuple(statuses),
        closes=row.get("closes"),
        forwarded=_text(row["forwarded"]) if "forwarded" in row else None,
        app_sees=_texts(row.get("app_sees", ())),
        app_never_sees=_texts(row.get("app_never_sees", ())),
        client_sees=_texts(row.get("client_sees", ())),
        client_never_sees=_texts(row.get("client_never_sees", ())),
    )


def _steps(row: dict[str, Any], text: str, exact: str, default: str) -> tuple[bytes, ...]:
    if exact in row:
        return (_exact(row[exact]),)
    value = row.get(text, default)
    return _texts([value] if isinstance(value, str) else value)


def _exact(value: str | list[str | dict[str, Any]]) -> bytes:
    pieces = [value] if isinstance(value, str) else value
    return b"".join(
        piece.encode("latin-1") if isinstance(piece, str) else piece["of"].encode("latin-1") * piece["times"]
        for piece in pieces
    )


def _texts(values: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(_text(value) for value in values)


def _text(value: str) -> bytes:
    """Give text with each line end as CRLF."""
    return value.replace("\r\n", "\n").replace("\n", "\r\n").encode("latin-1")
