"""The ends of frames and messages are found however the bytes are cut up, and a Close goes where it may."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drainproxy.proxy.message.websocket import Conversation, Frames, Stop

CLOSE = b"\x88\x02\x03\xe9"


def frame(
    payload: bytes, *, opcode: int = 2, final: bool = True, masked: bool = False, rsv: int = 0
) -> bytes:
    """Return one frame; a masked one with a key that changes every byte."""
    size = len(payload)
    head = bytes([(0x80 if final else 0) | rsv << 4 | opcode])
    mask = 0x80 if masked else 0
    if size < 126:
        head += bytes([mask | size])
    elif size < 1 << 16:
        head += bytes([mask | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mask | 127]) + size.to_bytes(8, "big")
    return head + (b"\x11\x22\x33\x44" if masked else b"") + payload


def message(parts: list[bytes], *, between: bytes = b"", masked: bool = False) -> bytes:
    """Return a message in fragments, with `between` after each but the last."""
    frames = [
        frame(part, opcode=0 if place else 1, final=place == len(parts) - 1, masked=masked)
        for place, part in enumerate(parts)
    ]
    return between.join(frames)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut `data` at these places."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


PING = frame(b"hi", opcode=9)
SIZES = [0, 1, 125, 126, 127, 65535, 65536]


@pytest.mark.parametrize("masked", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("step", [1, 2, 3, 13, 1 << 20])
def test_every_length_of_every_form_is_followed(masked: bool, step: int) -> None:
    """All three forms of length, at their edges, whole and in pieces."""
    frames = Frames(masked=masked)
    for size in SIZES:
        data = frame(b"\x88" * size, masked=masked)
        for place in range(0, len(data), step):
            part = data[place : place + step]
            assert frames.at(Stop.FRAME_END) is (place == 0)
            assert frames.follow(part) == len(part)
        assert frames.at(Stop.MESSAGE_END)
        assert not frames.broken


def test_a_fragmented_message_ends_with_its_last_frame() -> None:
    """Control frames between fragments end no message."""
    frames = Frames(masked=False)
    data = message([b"one", b"", b"three"], between=PING)
    ends = []
    for place in range(len(data)):
        frames.follow(data[place : place + 1])
        ends.append((frames.at(Stop.FRAME_END), frames.at(Stop.MESSAGE_END)))
    assert [frame_end for frame_end, _ in ends].count(True) == 5
    assert [message_end for _, message_end in ends].count(True) == 1
    assert ends[-1] == (True, True)


BROKEN = {
    "masked by a server": frame(b"x", masked=True),
    "a reserved opcode": frame(b"x", opcode=3),
    "a reserved control": frame(b"x", opcode=11),
    "a long control": frame(b"x" * 126, opcode=9),
    "a fragmented control": frame(b"x", opcode=9, final=False),
    "a continuation of nothing": frame(b"x", opcode=0),
    "a message in a message": frame(b"x", opcode=1, final=False) + frame(b"x", opcode=1),
    "a negative length": b"\x82\x7f" + b"\xff" * 8,
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("step", [1, 1000])
def test_where_framing_is_broken_nothing_is_added_and_everything_passes(data: bytes, step: int) -> None:
    """Who has lost the way cannot say where a message ends."""
    talk = Conversation(1001)
    data = PING + data + PING
    passed = b"".join(talk.from_server(data[at : at + step]) for at in range(0, len(data), step))
    assert passed == data
    assert talk.leave(hurry=True) == b""
    assert talk.from_server(PING) == PING
    assert talk.from_client(b"anything") == b"anything"


def test_a_client_without_masks_is_lost_track_of_too() -> None:
    """Its answer to a Close could not be found."""
    talk = Conversation(1001)
    assert talk.from_client(PING) == PING
    assert talk.leave(hurry=False) == b""
    assert talk.from_server(frame(b"x")) == frame(b"x")
    assert not talk.said


def test_a_close_between_messages_is_said_at_once_and_answered() -> None:
    """From then on the server is not heard; the client is, up to its own Close."""
    talk = Conversation(1012)
    assert talk.from_server(frame(b"x")) == frame(b"x")
    assert talk.leave(hurry=False) == b"\x88\x02\x03\xf4"
    assert talk.from_server(frame(b"late")) == b""
    last, answer = frame(b"last words", masked=True), frame(b"\x03\xf4", opcode=8, masked=True)
    assert talk.from_client(last) == last
    assert not talk.answered
    assert talk.from_client(answer[:5]) == answer[:5]
    assert talk.from_client(answer[5:] + b"more") == answer[5:]
    assert talk.answered
    assert talk.from_client(b"more") == b""


@pytest.mark.parametrize("cut", [2, 4])
def test_a_close_that_is_none_answers_nothing(cut: int) -> None:
    """A client's Close without a mask is a broken frame: what follows passes, however it was cut."""
    conversation = Conversation(1001)
    assert conversation.leave(hurry=False)
    data = b"\x88\x00more"
    assert conversation.from_client(data[:cut]) + conversation.from_client(data[cut:]) == data
    assert not conversation.answered


def test_a_ping_behind_a_close_of_the_server_makes_no_room_for_ours() -> None:
    """Once it has closed it stays closed, whatever it says after that."""
    conversation = Conversation(1001)
    data = b"\x88\x02\x03\xe8" + b"\x89\x00"
    assert conversation.from_server(data) == data
    assert conversation.leave(hurry=True) == b""
    assert not conversation.said


def test_in_a_hurry_a_close_goes_between_fragments() -> None:
    """A control frame may stand there (section 5.4); inside a frame nothing may."""
    talk = Conversation(1001)
    data = message([b"first", b"second"])
    assert talk.from_server(data[:9]) == data[:9]
    assert talk.leave(hurry=False) == b""
    assert talk.leave(hurry=True) == b""
    assert talk.from_server(b"") == b""
    first = len(frame(b"first"))
    talk = Conversation(1001)
    assert talk.from_server(data[:first]) == data[:first]
    assert talk.leave(hurry=False) == b""
    assert talk.leave(hurry=True) == CLOSE


def test_whoever_is_in_a_hurry_stays_so() -> None:
    """Being asked again without one does not take it back: the Close would come too late."""
    talk = Conversation(1001)
    first = len(frame(b"first"))
    data = message([b"first", b"second"])
    assert talk.from_server(data[: first - 1]) == data[: first - 1]
    assert talk.leave(hurry=True) == b""
    assert talk.leave(hurry=False) == b""
    assert talk.from_server(data[first - 1 : first]) == data[first - 1 : first] + CLOSE


@pytest.mark.parametrize("who", ["server", "client"])
def test_who_closes_already_is_not_told_to(who: str) -> None:
    """A Close of either side is under way: ours would be one too many."""
    talk = Conversation(1001)
    if who == "server":
        talk.from_server(frame(b"\x03\xe8", opcode=8))
    else:
        talk.from_client(frame(b"\x03\xe8", opcode=8, masked=True))
    assert talk.leave(hurry=False) == b""
    answer = frame(b"x") + frame(b"\x03\xe8", opcode=8)
    assert talk.from_server(answer) == answer
    assert not talk.said


def test_a_close_of_the_server_comes_before_ours() -> None:
    """The message that we wait for may be its last."""
    talk = Conversation(1001)
    data = frame(b"x") + frame(b"\x03\xe8", opcode=8)
    talk.from_server(data[:2])
    talk.leave(hurry=False)
    assert talk.from_server(data[2:3]) == data[2:3] + CLOSE  # the message ended first
    talk = Conversation(1001)
    close = frame(b"\x03\xe8", opcode=8)
    talk.from_server(close[:1])
    talk.leave(hurry=False)
    assert talk.from_server(close[1:]) == close[1:]
    assert not talk.said


FRAGMENTS = st.lists(st.binary(max_size=300), min_size=1, max_size=4)
MESSAGES = st.lists(FRAGMENTS, min_size=1, max_size=6)
CUTS = st.lists(st.integers(0, 1 << 16), max_size=20)


@settings(max_examples=300, deadline=None)
@given(MESSAGES, CUTS, st.integers(0, 1 << 16), st.booleans())
def test_a_close_always_stands_at_the_first_end_after_it_was_wanted(
    messages: list[list[bytes]], cuts: list[int], wanted: int, between: bool
) -> None:
    """Whatever the sizes, the fragments and the cuts: the client gets whole messages, then a Close."""
    wire = [message(parts, between=PING if between else b"") for parts in messages]
    data = b"".join(wire)
    ends = {0}
    for each in wire:
        ends.add(max(ends) + len(each))
    parts = pieces(data, cuts)
    wanted %= len(parts) + 1
    talk = Conversation(1001)
    got = b""
    for place, part in enumerate(parts):
        if place == wanted:
            got += talk.leave(hurry=False)
        got += talk.from_server(part)
    before = len(b"".join(parts[:wanted]))
    if wanted == len(parts):
        assert got == data
    else:
        end = min(place for place in ends if place >= before)
        assert got == data[:end] + CLOSE


def test_random_bytes_never_upset_a_conversation() -> None:
    """Without a Close of ours every byte passes, in both directions."""
    rng = random.Random(7)
    for _ in range(300):
        talk = Conversation(1001)
        for _ in range(20):
            data = rng.randbytes(rng.randrange(40))
            assert talk.from_server(data) == data
            assert talk.from_client(data) == data


def test_who_closes_by_itself_in_mid_message_is_followed_to_its_end() -> None:
    """It was lost from there on: both had closed, and it was taken for a conversation that stands still."""
    talk = Conversation(1001)
    whole = b"\x82\x04half"
    assert talk.from_server(whole[:4]) == whole[:4]
    assert talk.leave(hurry=False) == b""
    ended = b"\x88\x82mask\x6e\x89"
    assert talk.from_client(ended) == ended
    rest = whole[4:] + b"\x82\x04more" + b"\x88\x02\x03\xe8"
    assert talk.from_server(rest) == rest
    assert talk.over
    assert not talk.said
