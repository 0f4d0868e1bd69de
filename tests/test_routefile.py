"""The routes file: what it may say, and that everything wrong in it is told at once."""

from __future__ import annotations

import math

import pytest

from drainproxy import config
from drainproxy.errors import ConfigError
from drainproxy.proxy.limits.routes import PROFILES, Route, Timeouts

GOOD = """
routes:
  - path: /upload
    method: [POST, PUT]
    profile: upload
    drain: 60s
  - path: /events
    method: GET
    idle: off
    total: 1h
    streams: finish
    websockets: leave
  - path: /
    profile: api
    response_head: 500ms
"""


def load(tmp_path, text: str, **env: str) -> config.Config:
    """The Config of this routes file."""
    path = tmp_path / "routes.yaml"
    path.write_text(text)
    return config.load({"DRAINPROXY_ROUTES": str(path), **env})


def test_routes_are_read_in_order_with_profiles_and_numbers(tmp_path) -> None:
    """A number beside a profile wins; what neither says is as the settings have it."""
    events = Timeouts(connect=7, idle=math.inf, total=3600, streams="finish", websockets="leave")
    loaded = load(tmp_path, GOOD, DRAINPROXY_CONNECT_TIMEOUT="7s", DRAINPROXY_TOTAL_TIMEOUT="9s")
    assert loaded.routes == (
        Route(b"/upload", frozenset((b"POST", b"PUT")), Timeouts(connect=5, idle=30, drain=60)),
        Route(b"/events", frozenset((b"GET",)), events),
        Route(b"/", frozenset(), Timeouts(connect=3, response_head=0.5, idle=5, total=10)),
    )
    assert PROFILES["api"].response_head == 5


def test_a_route_is_as_the_settings_say_where_it_says_nothing(tmp_path) -> None:
    """A profile is about timeouts: who is told to leave a drain is not its business."""
    text = "routes:\n  - path: /a\n    profile: api\n  - path: /b\n  - path: /c\n    streams: leave\n"
    loaded = load(tmp_path, text, DRAINPROXY_STREAMS="finish", DRAINPROXY_WEBSOCKETS="finish")
    assert [route.timeouts.streams for route in loaded.routes] == ["finish", "finish", "leave"]
    assert {route.timeouts.websockets for route in loaded.routes} == {"finish"}


@pytest.mark.parametrize("text", ["", "routes: []", "# nothing\n"])
def test_a_file_without_routes_is_none(tmp_path, text: str) -> None:
    """A ConfigMap may be empty."""
    assert load(tmp_path, text).routes == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("routes: /x", "line 1: write `routes:` and a list"),
        ("route: []", "line 1: write `routes:` and a list"),
        ("routes:\n  - /x", "line 2: a route is `path: /...` and timeouts"),
        ("routes:\n  - method: GET", "line 2: a route needs a path"),
        ("routes:\n  - path: x", 'line 2: "x" is not good here; write a path that begins with /'),
        ("routes:\n  - path: /a?b", 'line 2: "/a?b" is not good here'),
        ("routes:\n  - path: [/a, /b]", 'line 2: "/a, /b" is not good here'),
        ("routes:\n  - path: /\n    method: get", 'line 3: "get" is not good here; write GET or [PUT, POST]'),
        ("routes:\n  - path: /\n    profile: fast", "write one of api, upload, internal, stream"),
        ("routes:\n  - path: /\n    idle: 30", "write a duration like 500ms or 30s, or off"),
        ("routes:\n  - path: /\n    idle: 0s", "line 3"),
        ("routes:\n  - path: /\n    streams: 3s", 'line 3: "3s" is not good here; write leave or finish'),
        ("routes:\n  - path: /\n    websockets: off", "write leave or finish"),
        ("routes:\n  - path: /\n    streams: [leave, finish]", "write leave or finish"),
        ("routes:\n  - path: /\n    timeout: 3s", 'line 3: "timeout" is not good here; write one of path,'),
        ("routes:\n  - path: /\n    idle: 1s\n    idle: 2s", 'line 4: "2s" is not good here; write it once'),
        ("routes:\n  - path: /\n    ? [idle]\n    : 1s", "line 3: "),
        ("routes:\n  - path: /\n    ? {idle: 1s}\n    : 1s", "line 3: "),
        ("routes: [", "cannot be used: it is not YAML"),
        ("- x", "cannot be used"),
        ("routes:\n" + "  - path: /\n" * 101, "101 routes are more than 100"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, text: str, said: str) -> None:
    """And nothing of the file is used."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert said in "\n".join(caught.value.problems)


def test_everything_wrong_is_said_at_once(tmp_path) -> None:
    """One run, one list."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "routes:\n  - path: x\n    idle: 3\n  - total: 5\n")
    assert len(caught.value.problems) == 4


def test_a_file_that_is_not_there_is_named() -> None:
    """By its setting."""
    with pytest.raises(ConfigError, match="routes .env DRAINPROXY_ROUTES.: .*No such file"):
        config.load({"DRAINPROXY_ROUTES": "/nowhere/routes.yaml"})
