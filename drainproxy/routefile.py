"""A routes file becomes routes, or a list of everything that is wrong with it.

A field of Chosen or of Timeouts is a word of a route; its type is its kind (kinds.py), the string under it
is its manual. Called by config.py, and by the generator of docs/.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, get_type_hints

from drainproxy.kinds import Kind, Meaning, choice, meaning
from drainproxy.proxy.limits.routes import MAX_ROUTES, PROFILES, Route, Timeouts
from drainproxy.values import matching


def _bytes(pattern: str) -> Callable[[str], bytes]:
    read = matching(pattern, "is not one")
    return lambda text: read(text).encode()


def _profile(text: str) -> Timeouts:
    if text not in PROFILES:
        raise ValueError("is unknown")
    return PROFILES[text]


# Visible characters but ? and #: a path has neither.
Path = Annotated[
    bytes, Kind("/PATH", "a path that begins with / and has no query", _bytes(r"/[!-\"$->@-~]*"))
]
Method = Annotated[bytes, Kind("METHOD", "GET or [PUT, POST]", _bytes(r"[A-Z]{1,32}"))]
Profile = Annotated[Timeouts, Kind("PROFILE", choice(PROFILES).allowed, _profile)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which requests a route is for, and what it begins with."""

    path: Path
    """Requests for it and for what is below it, element by element and byte by byte: `/a` covers `/a/b` and
    not `/ab`, and nothing is decoded."""

    method: tuple[Method, ...] = ()
    """Requests by one of them; without it, by any."""

    profile: Profile | None = None
    """Timeouts where the route says none itself."""


def _words(of: type) -> dict[str, Meaning]:
    return {name: meaning(hint) for name, hint in get_type_hints(of, include_extras=True).items()}


WORDS: Mapping[str, Meaning] = _words(Chosen) | _words(Timeouts)
"""What a route may say."""


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
        word = WORDS.get(name)
        texts = [str(each.value) for each in value.value] if value.id == "sequence" else [str(value.value)]
        try:
            said[name] = _read(word, texts, again=name in said)
        except ValueError as error:
            wrong, text = (key, name) if word is None else (value, ", ".join(texts))
            problems.append(f"line {_line(wrong)}: {json.dumps(text[:60])} is not good here; write {error}")
    if all(key.value != "path" for key, _ in node.value):
        problems.append(f"line {_line(node)}: a route needs a path")
    own = {each.name: said[each.name][0] for each in fields(Timeouts) if each.name in said}
    # A profile is about timeouts and says nothing of these.
    own = {name: getattr(default, name) for name in ("hold", "streams", "websockets")} | own
    timeouts = replace(said.get("profile", [default])[0], **own)
    return Route(said.get("path", [b"/"])[0], frozenset(said.get("method", ())), timeouts)


def _read(word: Meaning | None, texts: list[str], *, again: bool) -> list[Any]:
    """Return what was said, or raise ValueError with what to write."""
    if word is None:
        raise ValueError(f"one of {', '.join(WORDS)}")
    if not texts or (len(texts) > 1 and not word.many):
        raise ValueError(word.kind.allowed)
    try:
        read = [word.kind.read(text) for text in texts]
    except ValueError:
        raise ValueError(word.kind.allowed) from None
    if again:
        raise ValueError("it once")
    return read
