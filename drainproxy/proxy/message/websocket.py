"""Where do WebSocket messages end, so that a Close can be put between them? Pure (RFC 6455 section 5).

Only the headers of frames are read; payload passes as it is, whatever an extension has made of it.
Two trackers follow a conversation from its 101 on. Where one side's framing is broken nothing is ever added:
the tunnel just goes on. Bytes in, bytes out; upgraded.py owns sockets and time.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from drainproxy.proxy.wire.run_queue import READ_BUDGET

_FIN: Final = 0x80
_MASK: Final = 0x80
_OPCODE: Final = 0x0F
_CLOSE: Final = 0x8
_CONTROL: Final = 0x8
_DATA: Final = frozenset((0x0, 0x1, 0x2))
_CONTROLS: Final = frozenset((_CLOSE, 0x9, 0xA))
MAX_HEADER_BYTES: Final = 14


class Stop(IntEnum):
    """Where a tracker is to stop."""

    NEVER = 0
    MESSAGE_END = 1
    FRAME_END = 2
    CLOSE = 3


class Frames:
    """One direction: knows whether it is between two frames, between two messages, or after a Close."""

    __slots__ = ("_closing", "_data_frames", "_fragmented", "_header", "_left", "_mask", "broken", "kept")

    def __init__(self, *, masked: bool) -> None:
        """`masked`: what a client sends is, what a server sends is not (section 5.1)."""
        self._mask = _MASK if masked else 0
        self._header = b""
        """The beginning of a header that is not complete."""
        self._left = 0
        """Payload of the present frame that has not come."""
        self._data_frames = 0
        self._fragmented = False
        """A message has begun, and its last frame has not."""
        self._closing = False
        self.broken = False
        self.kept = b""
        """Beyond the budget of one read (run_queue.py)."""

    @property
    def closed(self) -> bool:
        """A Close has passed in full: nothing of this side follows (section 5.5.1)."""
        return self._closing and not self._left

    @property
    def progress(self) -> tuple[int, int]:
        """What changes with every piece of a message; control frames between its fragments are none."""
        return self._data_frames, self._left

    def at(self, stop: Stop) -> bool:
        """Tell whether it is where `stop` means."""
        if self._header or self._left or self.broken:
            return False
        if stop is Stop.CLOSE:
            return self._closing
        return not self._closing and (stop is Stop.FRAME_END or not self._fragmented)

    def follow(self, data: bytes, stop: Stop = Stop.NEVER) -> int:
        """Follow `data` up to the first place where `stop` means, or as far as the budget goes; return how
        many bytes of it that is."""
        place, size, budget = 0, len(data), READ_BUDGET
        while place < size and not self.broken and not (stop and self.at(stop)):
            if self._left:
                taken = min(self._left, size - place)
                self._left -= taken
                place += taken
            elif budget:
                budget -= 1
                place = self._read_header(data, place)
            else:
                break
        return size if self.broken else place

    def _read_header(self, data: bytes, place: int) -> int:
        if not self._header and len(data) - place > MAX_HEADER_BYTES:
            # It is here in full, as most are.
            first, second = data[place], data[place + 1]
            end = place + 2
            long = 0
            if second & 0x7F > 125:
                end += _length_bytes(second)
                long = int.from_bytes(data[place + 2 : end], "big")
            self._take(first, second, long)
            return end + 4 if second & _MASK else end
        known = len(self._header)
        header = self._header + data[place : place + MAX_HEADER_BYTES - known]
        need = _header_bytes(header)
        if len(header) < need:
            self._header = header
            return place + len(header) - known
        self._header = b""
        self._take(header[0], header[1], int.from_bytes(header[2 : 2 + _length_bytes(header[1])], "big"))
        return place + need - known

    def _take(self, first: int, second: int, long: int) -> None:
        """Judge a frame by its header: what does not fit means that we have lost our way (section 5.2)."""
        opcode, final = first & _OPCODE, bool(first & _FIN)
        short = second & 0x7F
        self._left = long if short > 125 else short
        if opcode & _CONTROL:
            fits = opcode in _CONTROLS and final and short <= 125
            self._closing |= opcode == _CLOSE
        else:
            fits = opcode in _DATA and (opcode == 0) == self._fragmented
            self._data_frames += 1
            self._fragmented = not final
        if not fits or second & _MASK != self._mask or self._left >> 63:
            self.broken = True
            self._left = 0
            self._closing = False


def _length_bytes(second: int) -> int:
    """Return how many bytes of extended length a frame has."""
    return {126: 2, 127: 8}.get(second & 0x7F, 0)


def _header_bytes(header: bytes) -> int:
    """Return how long a header is that begins with `header`, as far as that is known."""
    if len(header) < 2:
        return 2
    return 2 + _length_bytes(header[1]) + (4 if header[1] & _MASK else 0)


class Conversation:
    """Both directions, and what is added: one Close, to the client. Written by its tunnel."""

    __slots__ = ("_client", "_close", "_server", "_stop", "said")

    def __init__(self, close_code: int) -> None:
        self._client = Frames(masked=True)
        self._server = Frames(masked=False)
        self._close = b"\x88\x02" + close_code.to_bytes(2, "big")
        self._stop = Stop.NEVER
        """Where the Close goes, once it is wanted."""
        self.said = False
        """The Close was given out: the rest of what the server says is dropped, and the client may answer."""

    @property
    def backlogs(self) -> tuple[int, int]:
        """How many bytes of the client and of the server wait: b"" from either goes on with its own."""
        return len(self._client.kept), len(self._server.kept)

    @property
    def answered(self) -> bool:
        """Our Close was answered, and the answer passed on: the application has been told too."""
        return self.said and self._client.closed

    @property
    def lost(self) -> bool:
        """A side's framing is broken: nothing can be said of it, and nothing is ever added."""
        return self._client.broken or self._server.broken

    @property
    def over(self) -> bool:
        """Both have closed, by themselves."""
        return self._client.closed and self._server.closed

    @property
    def progress(self) -> tuple[int, int]:
        """How far the message of the server has come; the same as before where it has stopped."""
        return self._server.progress

    def leave(self, *, hurry: bool) -> bytes:
        """Say Close at the next chance; return it if that is now. `hurry`: between any two frames."""
        self._stop = max(self._stop, Stop.FRAME_END if hurry else Stop.MESSAGE_END)
        return self._say() if self._server.at(self._stop) else b""

    def from_server(self, data: bytes) -> bytes:
        """Return what the client gets of `data`, with the Close at its place."""
        server = self._server
        data, server.kept = server.kept + data, b""
        if self.said:
            return b""
        place = server.follow(data, self._stop)
        if self._stop and server.at(self._stop):
            if close := self._say():
                return data[:place] + close
            place += server.follow(data[place:])
        data, server.kept = data[:place], data[place:]
        return data

    def from_client(self, data: bytes) -> bytes:
        """Return what the server gets of `data`: nothing behind the client's answer to our Close."""
        client = self._client
        data, client.kept = client.kept + data, b""
        if self.said and client.closed:
            return b""
        place = client.follow(data, Stop.CLOSE if self.said else Stop.NEVER)
        if not client.closed or not self.said:
            data, client.kept = data[:place], data[place:]
        return data[:place]

    def _say(self) -> bytes:
        if self._client.closed or self._client.broken:
            # It closes by itself, or nobody could tell where its answer ends.
            self._stop = Stop.NEVER
            return b""
        self.said = True
        return self._close
