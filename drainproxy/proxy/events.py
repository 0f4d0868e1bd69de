"""Where does an event end, so that an event stream can end there? Pure (HTML, "Server-sent events").

A Body around the response's own, for `text/event-stream`: it passes payload on as it is, and once it is told
to leave it ends the body at the first event boundary; a content-coded one, which cannot be read, at the end
of a chunk. Nothing is looked for before.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from drainproxy.proxy.framing import ChunkedBody, Framing
from drainproxy.proxy.headers import name_of

if TYPE_CHECKING:
    from drainproxy.proxy.framing import Body
    from drainproxy.proxy.heads import ResponseHead

_EMPTY_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
"""The end of a line and an empty one, in any of the three forms."""
_AT_END = re.compile(_EMPTY_LINE.pattern + rb"\Z")
_TAIL_BYTES = 4
"""As much as the longest of these."""
CUT = b"\x00"
"""What a Body says follows it, so that the connection to the application is not used again."""


def is_stream(start: bytes, response: ResponseHead) -> bool:
    """Tell whether a response, whose head is sent as `start`, is an event stream."""
    if b"event-stream" not in start.lower():
        return False
    media = _value(response, b"content-type").split(b";")[0]
    return media.strip(b" \t").lower() == b"text/event-stream"


class EventStream:
    """See Body. Written by its exchange."""

    __slots__ = ("_body", "_coded", "_leaving", "_tail", "framing", "trailers")
    length = 0

    def __init__(self, body: Body, response: ResponseHead) -> None:
        self._body = body
        self._coded = _value(response, b"content-encoding") not in {b"", b"identity"}
        self._leaving = False
        self._tail = b"\n\n"
        """The last bytes that passed: before the first one is a boundary too."""
        self.framing: Framing = body.framing
        self.trailers = body.trailers

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """See Body."""
        payload, rest = self._body.feed(data)
        if rest is None and payload and self._leaving and (end := self._end_in(payload)):
            return payload[:end], CUT
        self._tail = (self._tail + payload[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        return payload, rest

    def leave(self) -> bool:
        """End at the next boundary from now on; tell whether it is at one already."""
        self._leaving = True
        return self._between_chunks() if self._coded else _AT_END.search(self._tail) is not None

    def _end_in(self, payload: bytes) -> int:
        """Return how much of `payload` ends with the first boundary in it; 0 for none."""
        if self._coded:
            return len(payload) if self._between_chunks() else 0
        known = len(self._tail)
        data = self._tail + payload
        place = 0
        while (match := _EMPTY_LINE.search(data, place)) is not None:
            if match.end() > known:
                return match.end() - known
            place = match.start() + 1
        return 0

    def _between_chunks(self) -> bool:
        return not isinstance(self._body, ChunkedBody) or self._body.between_chunks


def _value(response: ResponseHead, name: bytes) -> bytes:
    return next((line[len(name) + 1 :].strip() for line in response.fields if name_of(line) == name), b"")
