"""HTTP/2 frames both ways: another reading of which streams are open, the oracle over the proxy's, sentences.

One string holds both directions: a frame with the reserved bit of its stream set is the application's, and
one of the type DEADLINE among them is none, but the deadline of its stream.
"""

from __future__ import annotations

import itertools
import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from drainproxy.proxy.http2 import frames
from drainproxy.proxy.http2.faults import Code, FrameFault
from drainproxy.proxy.http2.flood_limits import FloodLimits
from drainproxy.proxy.http2.from_client import FromClient
from drainproxy.proxy.http2.from_upstream import FromUpstream
from drainproxy.proxy.http2.streams import Streams
from drainproxy.proxy.settings import ProxySettings
from tests.fuzz import sentences
from tests.fuzz.pieces import pieces
from tests.support.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST,
    SETTINGS,
    frame,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

THEIRS = 1 << 31
DEADLINE = 0xEE


def split(data: bytes) -> Iterator[bytes]:
    """Cut bytes into frames; the last one may lack its end."""
    at = 0
    while at < len(data):
        end = at + 9 + int.from_bytes(data[at : at + 3])
        yield data[at:end]
        at = end


def header(raw: bytes) -> tuple[int, int, int]:
    """Return a frame's type, flags and stream, with the reserved bit."""
    return raw[3], raw[4], int.from_bytes(raw[5:9])


class Passage:
    """Stands where Http2Connection stands, without sockets: two halves, a table, and what goes out."""

    goaway = SimpleNamespace(heard=lambda: None)

    def __init__(self) -> None:
        limits = ProxySettings()
        self.loop = SimpleNamespace(time=lambda: 0.0)
        self.guard = FloodLimits(limits, 0.0)
        self.table = Streams(self, limits)  # type: ignore[arg-type]
        self.from_client = FromClient(self.table, self.guard, lambda *_: None)
        self.from_upstream = FromUpstream(self.table, lambda *_: None)
        self.to_client = self.to_upstream = b""
        self.silent: dict[int, list[int]] = {}
        """Streams whose deadline has come, with what had been said of them until then."""
        self.all_opened: list[int] = []
        self.all_closed: list[int] = []

    def take(self, raw: bytes, cuts: list[int]) -> None:
        """Take one frame from its side, in pieces. Raises FrameFault."""
        kind, _, number = header(raw) if len(raw) >= 9 else (0, 0, 0)
        if number & THEIRS and kind == DEADLINE:
            if stream := self.table.open.get(number & ~THEIRS):
                self.silent[stream.id] = [self.said_of(stream.id, theirs=each) for each in (False, True)]
                self.table.cut(stream, frames.rst_stream(stream.id, Code.CANCEL), "cut")
        elif number & THEIRS:
            for piece in pieces(raw, cuts):
                self.to_client += self.from_upstream.feed(piece)
        else:
            for piece in pieces(raw, cuts):
                self.to_upstream += self.from_client.feed(piece)

    def said_of(self, number: int, *, theirs: bool) -> int:
        """Count the data and resets of one stream that went to one side."""
        kinds = [header(raw) for raw in split(self.to_client if theirs else self.to_upstream)]
        return sum(kind in {DATA, RST} and stream & ~THEIRS == number for kind, _, stream in kinds)

    # What the table asks of its connection.

    def opened(self, number: int) -> SimpleNamespace:
        self.all_opened.append(number)
        state = dict.fromkeys(("body_read", "upstream_ended", "answered"), False)
        told = dict.fromkeys(("moved", "responding"), lambda: None)
        return SimpleNamespace(id=number, started=0.0, limits=None, **state, **told)

    def closed(self, stream: SimpleNamespace, outcome: str) -> None:
        self.all_closed.append(stream.id)

    def say_client(self, said: bytes) -> None:
        self.to_client += self.from_upstream.say(said)

    def say_upstream(self, said: bytes) -> None:
        self.to_upstream += self.from_client.say(said)

    def settled(self) -> None: ...


class Reading:
    """Which streams are open, by RFC 9113 section 5.1 alone: each with the sides that have not ended it."""

    def __init__(self) -> None:
        self.open: dict[int, set[bool]] = {}
        self._last = 0
        self._opening: int | None = None
        """The flags of the last stream's HEADERS until its header block ends."""
        self._refused_from = THEIRS
        """The streams that the application's GOAWAY says it has not taken."""

    def take(self, raw: bytes) -> None:
        """Take one frame that was in order."""
        kind, flags, number = header(raw)
        theirs, number = bool(number & THEIRS), number & ~THEIRS
        if kind == HEADERS and not theirs and number > self._last:
            self._last = number
            self._opening = flags
        elif kind == GOAWAY and theirs:
            last = int.from_bytes(raw[9:13]) & ~THEIRS
            self._refused_from = min(self._refused_from, last + 1)
            self.open = {one: sides for one, sides in self.open.items() if one < self._refused_from}
        elif kind == RST or (kind == DEADLINE and theirs):
            self.open.pop(number, None)
            if kind == RST and number == self._last:
                self._opening = None
        elif kind in {HEADERS, DATA} and flags & END_STREAM:
            self._end(number, theirs=theirs)
        whole = kind in {HEADERS, CONTINUATION} and flags & END_HEADERS and not theirs
        if whole and self._opening is not None:
            opening, self._opening = self._opening, None
            if number < self._refused_from:
                self.open[number] = {False, True}
            if opening & END_STREAM:
                self._end(number, theirs=False)

    def _end(self, number: int, *, theirs: bool) -> None:
        if number in self.open:
            self.open[number] -= {theirs}
            if not self.open[number]:
                del self.open[number]


def http2_bytes(data: bytes, cuts: list[int]) -> None:
    """Whole frames pass, header blocks untouched and in one piece, and no stream is lost or ends twice."""
    passage, reading = Passage(), Reading()
    blocks: dict[bool, bytes] = {False: b"", True: b""}
    for raw in split(data):
        try:
            passage.take(raw, cuts)
        except FrameFault:
            break
        if len(raw) < 9 + int.from_bytes(raw[:3]) or len(raw) < 9:
            break
        reading.take(raw)
        assert set(passage.table.open) == set(reading.open)
        if header(raw)[0] in {HEADERS, CONTINUATION}:
            blocks[bool(header(raw)[2] & THEIRS)] += raw
    passage.table.drop("reset")
    assert sorted(passage.all_closed) == passage.all_opened
    for number, before in passage.silent.items():
        after = [passage.said_of(number, theirs=theirs) for theirs in (False, True)]
        assert all(now <= then + 1 for then, now in zip(before, after, strict=True)), "more than our reset"
    away = [raw for raw in split(passage.to_client) if header(raw)[0] == GOAWAY]
    named = [int.from_bytes(raw[9:13]) & ~THEIRS for raw in away]
    assert named == sorted(named, reverse=True), "the last stream of GOAWAY rose"
    for theirs, out in ((False, passage.to_upstream), (True, passage.to_client)):
        whole = list(split(out))
        assert all(len(raw) >= 9 and len(raw) == 9 + int.from_bytes(raw[:3]) for raw in whole)
        assert not whole or header(whole[0])[:2] == (SETTINGS, 0), "something came before SETTINGS"
        heads = [raw for raw in whole if header(raw)[0] in {HEADERS, CONTINUATION}]
        assert b"".join(heads) == blocks[theirs]
        for one, after in itertools.pairwise(whole):
            kind, flags, number = header(one)
            if kind in {HEADERS, CONTINUATION} and not flags & END_HEADERS:
                assert header(after)[::2] == (CONTINUATION, number), "something came into a header block"


SIZES = {2: 5, 3: 4, 5: 4, 6: 8, 7: 8, 8: 4}
_numbers = st.sampled_from([1, 1, 1, 3, 3, 5, 7, 9])
_sides = st.sampled_from([0, THEIRS])
_ends = st.sampled_from([0, END_STREAM])


@st.composite
def odd(draw: st.DrawFn) -> bytes:
    """A frame of any kind, of the right size for it, with any flags, on any stream."""
    kind = draw(st.integers(0, 10))
    payload = draw(st.binary(min_size=SIZES.get(kind, 0), max_size=SIZES.get(kind, 12)))
    return frame(kind, draw(st.integers(0, 255)), draw(st.integers(0, 9)) | draw(_sides), payload)


@st.composite
def block(draw: st.DrawFn) -> bytes:
    """A header block in up to three frames, between which the other side, or a deadline, has its turn."""
    side, number, more = draw(_sides), draw(_numbers), draw(st.integers(0, 2))
    out = frame(HEADERS, draw(_ends) | (0 if more else END_HEADERS), number | side, b"h")
    for left in reversed(range(more)):
        if draw(st.booleans()):
            out += draw(
                st.one_of(
                    _deadline, st.builds(frame, st.just(DATA), _ends, _numbers.map((side ^ THEIRS).__or__))
                )
            )
        out += frame(CONTINUATION, 0 if left else END_HEADERS, number | side, b"c")
    return out


_any = st.builds(int.__or__, _numbers, _sides)
_deadline = st.builds(frame, st.just(DEADLINE), st.just(0), _numbers.map(THEIRS.__or__))
_data = st.builds(frame, st.just(DATA), _ends, _any, st.sampled_from([b"", b"data"]))
_reset = st.builds(frame, st.just(RST), st.just(0), _any, st.just(bytes(4)))
_settings = st.builds(
    lambda name, value, side: frame(SETTINGS, 0, side, struct.pack(">HI", name, value)),
    st.integers(1, 6),
    st.one_of(st.sampled_from([0, 1]), st.integers(0, 70_000)),
    _sides,
)
_goaway = st.builds(
    lambda last: frame(GOAWAY, 0, THEIRS, struct.pack(">II", last, 0)),
    st.one_of(_numbers, st.just(THEIRS - 1)),
)
_begun = frame(SETTINGS) + frame(SETTINGS, 0, THEIRS)
_opened = b"".join(frame(HEADERS, END_HEADERS, number) for number in (1, 3, 5))
_some = st.lists(
    st.one_of(block(), block(), _data, _data, _reset, _deadline, _settings, _goaway), max_size=12
)
connections = st.builds(
    lambda begun, some, last: begun + b"".join([*some, last]),
    st.sampled_from([_begun + _opened, _begun + _opened, _begun, b""]),
    _some,
    st.one_of(st.just(b""), odd(), sentences.changed(_data)),
)


def seeds() -> list[bytes]:
    """Calls in order, cut within a header block, reset by both sides; header blocks of no stream."""
    call = frame(HEADERS, END_HEADERS, 1) + frame(DATA, END_STREAM, 1, b"x")
    answer = frame(HEADERS, 0, 1 | THEIRS) + frame(CONTINUATION, END_HEADERS, 1 | THEIRS)
    late = frame(DEADLINE, 0, 1 | THEIRS) + frame(DATA, END_STREAM, 1 | THEIRS, b"y")
    resets = frame(RST, 0, 1, bytes(4)) + frame(RST, 0, 1 | THEIRS, bytes(4))
    nobody = frame(HEADERS, 0, THEIRS)
    calls = [call + answer + late, call + answer[:9] + late, call + resets, call + late + resets, nobody * 2]
    return [_begun + each for each in calls]
