"""A routes file becomes routes, or a list of everything that is wrong with it. Called by config.py."""

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

from drainproxy.proxy.routes import MAX_ROUTES, PROFILES, Route, Timeouts
from drainproxy.values import positive_duration

TIMEOUTS = tuple(each.name for each in fields(Timeouts))
_CHOICES = {"leave": "leave", "finish": "finish"}


def read(top: Iterable[tuple[Any, Any]], default: Timeouts) -> tuple[tuple[Route, ...], list[str]]:
    """Return the routes in a file whose YAML nodes are given as pairs, and what is wrong, with its line."""
    routes: list[Route] = []
    problems: list[str] = []
    for key, value in top:
        if key.value != "routes" or value.id != "sequence":
            problems.append(f"line {_line(key)}: write `routes:` and a list")
            continue
        for node in value.value:
            if node.id != "mapping":
                problems.append(f"line {_line(node)}: a route is `path: /...` and timeouts")
            else:
                routes.append(_route(node, default, problems))
    if len(routes) > MAX_ROUTES:
        problems.append(f"{len(routes)} routes are more than {MAX_ROUTES}")
    return tuple(routes), problems


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _route(node: Any, default: Timeouts, problems: list[str]) -> Route:
    said: dict[str, list[Any]] = {}
    for key, value in node.value:
        name = str(key.value)
        read, allowed = _READERS.get(name, (None, f"one of {', '.join(_READERS)}"))
        texts = [str(each.value) for each in value.value] if value.id == "sequence" else [str(value.value)]
        try:
            if read is None or not texts or (len(texts) > 1 and name != "method"):
                raise ValueError
            if name in said:
                allowed = "it once"
                raise ValueError
            said[name] = [read(text) for text in texts]
        except (ValueError, KeyError):
            wrong, text = (key, name) if read is None else (value, ", ".join(texts))
            problems.append(f"line {_line(wrong)}: {json.dumps(text[:60])} is not good here; write {allowed}")
    if all(key.value != "path" for key, _ in node.value):
        problems.append(f"line {_line(node)}: a route needs a path")
    own = {name: said[name][0] for name in TIMEOUTS if name in said}
    # A profile is about timeouts and says nothing of these.
    own = {"streams": default.streams, "websockets": default.websockets, **own}
    timeouts = replace(said.get("profile", [default])[0], **own)
    return Route(said.get("path", [b"/"])[0], frozenset(said.get("method", ())), timeouts)


def _matching(pattern: str) -> Callable[[str], bytes]:
    def read(text: str) -> bytes:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text.encode()

    return read


def _timeout(text: str) -> float:
    return math.inf if text == "off" else positive_duration(text)


_READERS: dict[str, tuple[Callable[[str], Any], str]] = {
    # Visible characters but ? and #: a path has neither.
    "path": (_matching(r"/[!-\"$->@-~]*"), "a path that begins with / and has no query"),
    "method": (_matching(r"[A-Z]{1,32}"), "GET or [PUT, POST]"),
    "profile": (PROFILES.__getitem__, f"one of {', '.join(PROFILES)}"),
    **dict.fromkeys(TIMEOUTS, (_timeout, "a duration like 500ms or 30s, or off")),
    **dict.fromkeys(("streams", "websockets"), (_CHOICES.__getitem__, "leave or finish")),
}
"""What a route may say, how it is read, and what to write where it cannot be read."""
