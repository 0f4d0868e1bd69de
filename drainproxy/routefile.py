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
_PATH = re.compile(r"/[!-\"$->@-~]*")
"""Visible characters but ? and #: a path has neither."""
_METHOD = re.compile(r"[A-Z]{1,32}")


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
    said: dict[str, Any] = {}
    for key, value in node.value:
        reader, allowed = _READERS.get(str(key.value), (None, f"one of {', '.join(_READERS)}"))
        texts = [str(each.value) for each in value.value] if value.id == "sequence" else [str(value.value)]
        try:
            if reader is None or not texts:
                raise ValueError
            if key.value in said:
                allowed = "it once"
                raise ValueError
            said[key.value] = reader(texts)
        except ValueError:
            wrong = key if reader is None else value
            text = ", ".join(texts) if reader else str(key.value)
            problems.append(f"line {_line(wrong)}: {json.dumps(text[:60])} is not good here; write {allowed}")
    if all(key.value != "path" for key, _ in node.value):
        problems.append(f"line {_line(node)}: a route needs a path")
    own = {name: said[name] for name in TIMEOUTS if name in said}
    timeouts = replace(said.get("profile", default), **own)
    return Route(said.get("path", b"/"), said.get("method", frozenset()), timeouts)


def _path(texts: list[str]) -> bytes:
    if len(texts) != 1 or not _PATH.fullmatch(texts[0]):
        raise ValueError
    return texts[0].encode()


def _methods(texts: list[str]) -> frozenset[bytes]:
    if not all(map(_METHOD.fullmatch, texts)):
        raise ValueError
    return frozenset(text.encode() for text in texts)


def _profile(texts: list[str]) -> Timeouts:
    if len(texts) != 1 or texts[0] not in PROFILES:
        raise ValueError
    return PROFILES[texts[0]]


def _timeout(texts: list[str]) -> float:
    if len(texts) != 1:
        raise ValueError
    return math.inf if texts[0] == "off" else positive_duration(texts[0])


_READERS: dict[str, tuple[Callable[[list[str]], Any], str]] = {
    "path": (_path, "a path that begins with / and has no query"),
    "method": (_methods, "GET or [PUT, POST]"),
    "profile": (_profile, f"one of {', '.join(PROFILES)}"),
    **dict.fromkeys(TIMEOUTS, (_timeout, "a duration like 500ms or 30s, or off")),
}
"""What a route may say, how it is read, and what to write where it cannot be read."""
