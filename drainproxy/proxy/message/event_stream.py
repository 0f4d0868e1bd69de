"""Which event streams are told to leave, and where does an event end, so that one can end there? Pure.

HTML, "Server-sent events" (sections 9.2.3 to 9.2.6 of the living standard). An EventSource comes back by
itself and says what it has seen; every other reader of an event stream takes its clean end for the end.

A Body around the response's own: it passes payload on as it is, and once it is told to leave it ends the
body at the first boundary between two events; a content-coded one, which cannot be read, at the end of a
chunk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from drainproxy.proxy.message.framing import ChunkedBody, Framing
from drainproxy.proxy.message.headers import name_of

if TYPE_CHECKING:
    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.parser import RequestHead, ResponseHead

CUT: Final = b"\x00"
"""What a Body says follows it, so that the connection to the application is not used again."""

_QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NOT_THIS: Final = re.compile(rb"q=0(?:\.0*)?", re.IGNORECASE)
"""A weight that says "not acceptable" (RFC 9110 section 12.4.2)."""
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_TELLING_BYTES: Final = len(_BYTE_ORDER_MARK) + len(b"data:")
"""So much of a line tells what it is."""


def leaves(start: bytes, response: ResponseHead, asked: RequestHead, wish: str | None) -> bool:
    """Tell whether a response, whose head is sent as `start`, is an event stream to be told to leave.

    `wish`: the word of its route, or of the setting `streams`; None leaves it to what `asked` is.
    """
    if b"event-stream" not in start.lower() or wish == "finish":
        return False
    media = _values(response, b"content-type").split(b";")[0]
    if media.strip(b" \t").lower() != b"text/event-stream":
        return False
    # After any other status an EventSource does not come back.
    return wish == "leave" or (response.status == 200 and comes_back(asked))


def comes_back(asked: RequestHead) -> bool:
    """Tell whether a request is an EventSource's, which connects again by itself when its stream ends."""
    if asked.method != b"GET":
        return False
    for each in _QUOTED.sub(b"", _values(asked, b"accept")).split(b","):
        media, *parameters = [part.strip(b" \t") for part in each.split(b";")]
        if media.lower() == b"text/event-stream" and not any(map(_NOT_THIS.fullmatch, parameters)):
            return True
    return False


class Position:
    """Where in a stream of events we are: pieces in, cut anywhere."""

    __slots__ = ("_after_cr", "_field", "_first", "_has_data", "_line", "_silent", "said")

    def __init__(self, *, silent: bool = True) -> None:
        """`silent`: it may end without having said anything."""
        self._silent = silent
        self._first = True
        """No line has ended yet: it may begin with a byte order mark."""
        self._line = b""
        """How the present line begins; empty between two lines."""
        self._after_cr = False
        """The last line ended with CR: an LF now is a part of its end."""
        self._field = False
        """A line of an event has passed, and the empty line behind it has not. A comment is no such line."""
        self._has_data = False
        """One of these lines is `data`: without one nothing is dispatched."""
        self.said = False
        """An event has passed in full."""

    @property
    def between_events(self) -> bool:
        """Nothing that the reader still keeps has passed since the last event."""
        return not self._line and not self._field

    @property
    def may_end(self) -> bool:
        """The stream may end here."""
        return self.between_events and (self._silent or self.said)

    def follow(self, data: bytes, *, stop: bool = False) -> int:
        """Follow `data`, with `stop` up to the first place where it may end; return how far."""
        place = 1 if self._after_cr and data[:1] == b"\n" else 0
        self._after_cr = data[-1:] == b"\r"
        if self.said and not stop and (known := _last_empty_line(data)) > place:
            self._line, self._field, self._has_data = b"", False, False
            place = known
        for end in _LINE_END.finditer(data, place):
            self._end_line(self._line + data[place : min(end.start(), place + _TELLING_BYTES)])
            place = end.end()
            if stop and self.may_end:
                return place
        self._line = (self._line + data[place : place + _TELLING_BYTES])[:_TELLING_BYTES]
        return len(data)

    def _end_line(self, line: bytes) -> None:
        self._line = b""
        if self._first:
            self._first = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            self.said = self.said or self._has_data
            self._field = self._has_data = False
        elif line[:1] != b":":
            self._field = True
            self._has_data = self._has_data or line[:5] in {b"data:", b"data"}


def _last_empty_line(data: bytes) -> int:
    """Return where the last one ends that is easily found; 0 for none."""
    ends = (b"\n\n", b"\n\r\n", b"\r\r")
    return max((data.rfind(end) + len(end) for end in ends if end in data), default=0)


class EventStream:
    """See Body. Written by its exchange."""

    __slots__ = (
        "_body", "_coded", "_leaving", "_mark", "_passed", "_position", "_silent", "framing", "told",
        "trailers",
    )  # fmt: skip
    length = 0
    held_bytes = 0

    def __init__(self, body: Body, response: ResponseHead, *, silent: bool = True) -> None:
        """`silent`: see Position."""
        self._body = body
        self._coded = _values(response, b"content-encoding") not in {b"", b"identity"}
        self._position = Position(silent=silent)
        self._passed = 0
        self._silent = silent
        self._leaving = False
        self._mark = (0, 0)
        """How far it was when it was told to leave, or told again."""
        self.told = False
        """It was told to leave, and has ended for that."""
        self.framing: Framing = body.framing
        self.trailers = body.trailers

    @property
    def backlog(self) -> int:
        """See Body."""
        return self._body.backlog

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """See Body."""
        payload, rest = self._body.feed(data)
        if rest is not None or not payload:
            return payload, rest
        self._passed += len(payload)
        if self._coded:
            return payload, CUT if self._ends() else None
        place = self._position.follow(payload, stop=self._leaving)
        return (payload[:place], CUT) if self._ends() else (payload, None)

    def leave(self, unsent: int = 0) -> bool:
        """End at the next boundary from now on; tell whether it is at one already. `unsent`: see stuck."""
        self._leaving = True
        self._mark = self._progress(unsent)
        return self._ends()

    def stuck(self, unsent: int) -> bool:
        """Tell whether it has come no further since it was told to leave, or told again.

        Comments between two events are no progress; what the client has taken of `unsent` bytes is.
        """
        return self._leaving and self._mark == self._progress(unsent)

    def _progress(self, unsent: int) -> tuple[int, int]:
        between = self._between_chunks() if self._coded else self._position.between_events
        return (-1 if between else self._passed), unsent

    def _ends(self) -> bool:
        """Tell whether it ends here, now that it was told to."""
        if self._leaving:
            if self._coded:
                self.told = self._between_chunks() and (self._silent or self._passed > 0)
            else:
                self.told = self._position.may_end
        return self.told

    def _between_chunks(self) -> bool:
        return not isinstance(self._body, ChunkedBody) or self._body.between_chunks


def _values(head: RequestHead | ResponseHead, name: bytes) -> bytes:
    return b",".join(line[len(name) + 1 :].strip() for line in head.fields if name_of(line) == name)
