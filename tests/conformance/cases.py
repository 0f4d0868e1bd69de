"""What a case is, and cases from a directory: the project's own (`own`) or recorded JSON lines.

The loader takes any directory.  What a file of JSON lines holds shows in its rows and its name:
`response_b64` is a scripted application, `steps_b64` is requests, or what an application
answers where the file's name says "response".
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = {
    "must-reject",
    "must-normalise",
    "may-accept",
    "must-accept",
    "must-answer",
    "must-502",
    "must-502-or-normalise",
    "must-not-complete",
    "must-forward",
    "must-504",
    "bounded",
    "may-pass",
}


@dataclass(frozen=True, slots=True)
class Expects:
    """What one of the project's own cases says beyond its class: bytes, statuses, the connection."""

    statuses: tuple[int, ...] = ()  # of the replies, in order
    closes: bool | None = None  # whether the proxy ends the client's connection by itself
    forwarded: bytes | None = None  # all that reaches the application, exactly
    app_sees: tuple[bytes, ...] = ()  # stand in what reaches the application
    app_never_sees: tuple[bytes, ...] = ()
    client_sees: tuple[bytes, ...] = ()  # stand in what reaches the client
    client_never_sees: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestCase:
    """Bytes a client sends, step after step on one connection."""

    name: str
    klass: str
    steps: tuple[bytes, ...]
    incomplete: bool = False
    expects: Expects = Expects()
    rule: str = ""  # the section, and what it asks
    policy: bool = False  # the rule is drainproxy's own: other proxies are not judged by it

    @property
    def sent(self) -> bytes:
        """All of it."""
        return b"".join(self.steps)


@dataclass(frozen=True, slots=True)
class ResponseCase:
    """Bytes an application sends when asked, and what it does next."""

    name: str
    klass: str
    parts: tuple[bytes, ...]
    after: str
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    may_reuse: bool = False  # whether the connection to the application may be used again
    request: bytes = b""  # what the client sends, where method and headers do not say it
    expects: Expects = Expects()
    rule: str = ""
    policy: bool = False

    @property
    def sent(self) -> bytes:
        """All of it."""
        return b"".join(self.parts)


Case = RequestCase | ResponseCase


@dataclass(frozen=True, slots=True)
class Suite:
    """One file's cases, and the settings of the proxy that they are for."""

    cases: list[Case]
    arguments: tuple[str, ...] = ()  # of `drainproxy run`: what needs some is not for other proxies


def load(directory: Path) -> dict[str, Suite]:
    """Read every *.jsonl file of a directory, by file name; ValueError names file and line."""
    found: dict[str, Suite] = {}
    for path in sorted(directory.glob("*.jsonl")):
        rows = path.read_text(encoding="utf-8").splitlines()
        found[path.name] = Suite(
            [_case(path, number, line) for number, line in enumerate(rows, 1) if line.strip()]
        )
    return found


def _case(path: Path, number: int, line: str) -> Case:
    try:
        row: dict[str, Any] = json.loads(line)
        if "response_b64" in row:
            return _fault(row)
        if "response" in path.stem:
            return ResponseCase(row["name"], _class(row), _steps(row), "settle")
        return RequestCase(row["name"], _class(row), _steps(row), incomplete=bool(row.get("incomplete")))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name}:{number}: {error!r}") from error


def _class(row: dict[str, Any]) -> str:
    if row["class"] not in CLASSES:
        raise ValueError(f"unknown class {row['class']!r}")
    return str(row["class"])


def _fault(row: dict[str, Any]) -> ResponseCase:
    return ResponseCase(
        name=row["name"],
        klass=_class(row),
        parts=_decode(row["response_b64"]),
        after=row["after"],
        method=row.get("method", "GET"),
        headers=row.get("request_headers") or {},
        may_reuse=row.get("upstream_conn") == "reuse",
    )


def _steps(row: dict[str, Any]) -> tuple[bytes, ...]:
    if row.get("host_missing") and row.get("with_host_b64"):
        return _decode(row["with_host_b64"])
    return _decode(row["steps_b64"])


def _decode(value: str | list[str]) -> tuple[bytes, ...]:
    listed = [value] if isinstance(value, str) else value
    return tuple(base64.b64decode(item, validate=True) for item in listed)


UPGRADE = re.compile(rb"^upgrade[ \t]*:", re.IGNORECASE | re.MULTILINE)
EXPECT = re.compile(rb"^expect[ \t]*:", re.IGNORECASE | re.MULTILINE)


def features(case: Case) -> set[str]:
    """Name what the case needs beyond plain requests: upgrade, connect, expect."""
    if isinstance(case, ResponseCase):
        asked = {name.lower() for name in case.headers}
        return {"upgrade"} if UPGRADE.search(case.request) else {"upgrade"} & asked
    found = set()
    if UPGRADE.search(case.sent):
        found.add("upgrade")
    if EXPECT.search(case.sent):
        found.add("expect")
    if case.sent.lstrip(b"\r\n").startswith(b"CONNECT "):
        found.add("connect")
    return found
