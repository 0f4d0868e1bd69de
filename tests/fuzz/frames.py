"""WebSocket frames: an independent reader, the oracle over the proxy's trackers, and sentences for it.

The Close that tells a client to leave must stand between two frames, and nothing else may be changed.
"""

from __future__ import annotations

from hypothesis import strategies as st

from drainproxy.proxy.message.websocket import Conversation
from tests.fuzz.pieces import pieces

CLOSE = b"\x88\x02\x03\xe9"


def boundaries(data: bytes, *, masked: bool) -> tuple[list[tuple[int, bool]], int | None]:
    """Read frames (RFC 6455 5.2); give where one may end, if a message does there, and the end of a Close.

    Ends at the first frame that is none, at a Close, or where the bytes do.
    """
    found, at, fragmented = [(0, True)], 0, False
    while len(data) - at >= 2:
        opcode, final, short = data[at] & 0x0F, data[at] >= 0x80, data[at + 1] & 0x7F
        size = {126: 2, 127: 8}.get(short, 0)
        start = at + 2 + size + (4 if masked else 0)
        control = opcode >= 8
        if (data[at + 1] >= 0x80) != masked or opcode not in {0, 1, 2, 8, 9, 10}:
            break
        if (control and (not final or short > 125)) or (not control and (opcode == 0) != fragmented):
            break
        length = int.from_bytes(data[at + 2 : at + 2 + size]) if size else short
        if len(data) < start + length or length >> 63:
            break
        at = start + length
        if opcode == 8:
            return found, at
        fragmented = fragmented if control else not final
        found.append((at, not fragmented))
    return found, None


def websocket_bytes(data: bytes, cuts: list[int]) -> None:
    """Without leaving nothing is changed; with it a Close stands at the first place for it, then nothing."""
    for masked in (False, True):
        quiet = Conversation(1001)
        pass_on = quiet.from_client if masked else quiet.from_server
        assert b"".join(map(pass_on, pieces(data, cuts))) == data
    told_at = cuts[0] % (len(data) + 1) if cuts else 0
    places, _ = boundaries(data, masked=False)
    for hurry in (False, True):
        conversation = Conversation(1001)
        out = b"".join(map(conversation.from_server, pieces(data[:told_at], cuts)))
        out += conversation.leave(hurry=hurry)
        out += b"".join(map(conversation.from_server, pieces(data[told_at:], cuts)))
        place = next((at for at, whole in places if at >= told_at and (whole or hurry)), None)
        assert out == (data if place is None else data[:place] + CLOSE), (told_at, hurry)
        assert conversation.said is (place is not None)
    answered = Conversation(1001)
    assert answered.leave(hurry=False) == CLOSE
    _, end = boundaries(data, masked=True)
    assert b"".join(map(answered.from_client, pieces(data, cuts))) == data[:end]
    assert answered.answered is (end is not None)


@st.composite
def frame(draw: st.DrawFn) -> bytes:
    """One frame, mostly valid."""
    opcode = draw(st.sampled_from([1, 1, 2, 0, 9, 10, 8, 3]))
    final = draw(st.sampled_from([0x80, 0x80, 0x80, 0, 0xC0]))
    payload = draw(st.sampled_from([b"", b"x", b"y" * 125, b"z" * 126, b"w" * 300]) | st.binary(max_size=20))
    masked = draw(st.booleans())
    form = draw(st.sampled_from([0, 0, 126, 127]))
    size = len(payload)
    if form == 127:
        length = bytes([127]) + size.to_bytes(8)
    elif form == 126 or size > 125:
        length = bytes([126]) + size.to_bytes(2)
    else:
        length = bytes([size])
    mask = b"\1\2\3\4" if masked else b""
    return bytes([final | opcode, length[0] | (0x80 if masked else 0)]) + length[1:] + mask + payload


conversations = st.lists(frame(), max_size=6).map(b"".join)


def seeds() -> list[bytes]:
    """A text, a fragmented one with a ping inside, and a Close; from a server and from a client."""
    plain = b"\x81\x02hi" + b"\x01\x01a\x89\x00\x80\x01b" + b"\x88\x02\x03\xe8"
    masked = b"\x81\x82\1\2\3\4hi" + b"\x88\x82\1\2\3\4\x02\xea"
    return [plain, masked, plain + b"\x89\x00\x81\x00"]
