"""The frame reader: whole frames out, whatever comes in, however it is cut."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from drainproxy.proxy.http2.faults import FrameFault
from drainproxy.proxy.http2.frame_reader import FrameReader
from tests.support.http2 import PREFACE, SETTINGS, frame

kinds = st.one_of(st.integers(0, 12), st.integers(0, 255))
frames = st.builds(frame, kinds, st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40))


def whole(data: bytes) -> bytes:
    """Return the part of `data` that is made of whole frames, by another reading than the proxy's."""
    at = 0
    while len(data) - at >= 9 and len(data) >= at + 9 + int.from_bytes(data[at : at + 3], "big"):
        at += 9 + int.from_bytes(data[at : at + 3], "big")
    return data[:at]


def fed(data: bytes, cuts: list[int]) -> tuple[bytes, bool]:
    """Feed `data` in pieces; return what came out, and whether it ended in a fault."""
    half = FrameReader(lambda *_: None)
    out = b""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        try:
            out += half.feed(data[start:end])
        except FrameFault as fault:
            return out + fault.before, True
        assert out == whole(out), "a part of a frame was passed on"
    return out, False


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 500), max_size=12))
def test_frames_come_out_whole_and_as_they_were(sent: list[bytes], cuts: list[int]) -> None:
    """Cut anywhere; what was passed on is a beginning of what was sent."""
    data = frame(SETTINGS) + b"".join(sent)
    out, faulty = fed(data, cuts)
    assert data.startswith(out)
    if not faulty:
        assert out == data


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=12))
def test_noise_never_raises_anything_but_a_fault(data: bytes, cuts: list[int]) -> None:
    """And passes only what is whole."""
    out, _ = fed(data, cuts)
    assert whole(data).startswith(out)


@given(st.lists(frames, max_size=6))
def test_byte_by_byte_is_the_same(sent: list[bytes]) -> None:
    """Every boundary: what comes before a fault passes, in the same read or in one of its own."""
    data = frame(SETTINGS) + b"".join(sent)
    bytewise, faulty = fed(data, list(range(len(data))))
    at_once, fault = fed(data, [])
    assert (bytewise, faulty) == (at_once, fault)


def test_the_preface_is_the_protocols() -> None:
    """RFC 9113 section 3.4."""
    from drainproxy.proxy.http2 import frames as ours

    assert ours.PREFACE == PREFACE
