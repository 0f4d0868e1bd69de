"""What a setting becomes, and what config.load says of a bad one."""

from __future__ import annotations

import pytest

from drainproxy import config, settings
from drainproxy.errors import ConfigError

BY_NAME = {setting.name: setting for setting in settings.table()}


def value(name: str, text: str):
    """What a setting becomes when the environment says `text`."""
    pairs = {"listen": "upstream", "upstream": "listen"}
    env = {BY_NAME[name].env: text}
    if name in pairs:
        other = BY_NAME[pairs[name]]
        env[other.env] = ",".join([other.show(other.default)] * len(text.split(",")))
    loaded = config.load(env)
    return getattr(getattr(loaded, BY_NAME[name].room), name)


def problems(env=None, flags=None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config.load(env or {}, flags)
    return caught.value.problems
