"""Reads a Kubernetes list as it comes: one item at a time, each forgotten before the next.

Pure. A namespace may hold megabytes of EndpointSlices, of which this pod is a few rows; parsed whole they
would cost ten times their size in memory. Called by client.py with pieces of a response's text.
"""

import json
import re
from collections.abc import Callable
from typing import Any

MAX_VALUE_CHARS = 4 * 1024 * 1024
"""One item or field. etcd stores no object above 1.5 MiB unless told to (etcd: system limits)."""
MAX_KEY_CHARS = 256

_GAP = re.compile(r"[\s,]*")
_KEY = re.compile(r'[\s,]*"([^"\\]*)"\s*:\s*(?=\S)')
_DECODER = json.JSONDecoder()


class Malformed(ValueError):
    """Not the JSON of a Kubernetes list."""


class ListReader:
    """Give text to `feed`; `take` is called with each object in `items`, the other fields are kept."""

    def __init__(self, take: Callable[[dict[str, Any]], None]) -> None:
        self._take = take
        self._text = ""
        self._at = 0
        self._open = ""
        """What is open: nothing yet, the list `{`, its items `[`, or nothing any more `}`."""
        self.fields: dict[str, Any] = {}

    def feed(self, text: str) -> None:
        """Read on. Raises Malformed, and RecursionError for what is nested too deeply."""
        self._text = self._text[self._at :] + text
        self._at = 0
        while self._step():
            pass
        if len(self._text) - self._at > MAX_VALUE_CHARS:
            raise Malformed("one value is too long")

    def close(self) -> None:
        """Say that no more comes. Raises Malformed where the list is not whole."""
        if self._open != "}":
            raise Malformed("it is cut short")

    def _step(self) -> bool:
        """Read one thing; return whether another may follow in what is here."""
        gap = _GAP.match(self._text, self._at)
        assert gap is not None
        at = gap.end()
        if at == len(self._text):
            return False
        char = self._text[at]
        if not self._open:
            if char != "{":
                raise Malformed("it is no object")
            self._open, self._at = "{", at + 1
        elif self._open == "}":
            raise Malformed("something follows it")
        elif char == ("}" if self._open == "{" else "]"):
            self._open, self._at = ("}" if self._open == "{" else "{"), at + 1
        elif self._open == "[":
            item = self._value(at)
            if item is None:
                return False
            if not isinstance(item, dict):
                raise Malformed("an item is no object")
            self._take(item)
        else:
            return self._field()
        return True

    def _field(self) -> bool:
        key = _KEY.match(self._text, self._at)
        if key is None:
            if len(self._text) - self._at > MAX_KEY_CHARS:
                raise Malformed("a field has no name")
            return False
        if key[1] == "items" and self._text[key.end()] == "[":
            self._open, self._at = "[", key.end() + 1
            return True
        before = self._at
        value = self._value(key.end())
        if self._at == before:
            return False
        self.fields[key[1]] = value
        return True

    def _value(self, at: int) -> Any:
        """Return the value at `at` and go behind it; stay, and return None, where it is not whole."""
        try:
            value, end = _DECODER.raw_decode(self._text, at)
        except ValueError:
            return None
        if end < len(self._text):
            self._at = end
            return value
        return None
