"""The field that tells a sibling of a request handed on: what it proves, to whom, and for how long."""

from __future__ import annotations

import pytest

from drainproxy.proxy.message import handed_on
from drainproxy.proxy.message.parser import RequestReader
from drainproxy.proxy.settings import ProxySettings

KEY, OTHER = b"0b1e6f0a-0000-4000-8000-000000000001", b"0b1e6f0a-0000-4000-8000-000000000002"
NOW = 1_764_400_000.0


def head(*lines: bytes, target: bytes = b"/a?b=c"):
    """A request's head, as it was read."""
    text = b"\r\n".join([b"GET %b HTTP/1.1" % target, b"Host: a", *lines, b"", b""])
    read = RequestReader(ProxySettings()).feed(text)
    assert read is not None
    return read[0]


def sent(*lines: bytes, keys: tuple[bytes, ...] = (KEY,), target: bytes = b"/a?b=c"):
    """The same, as the sibling reads it behind a pod that has marked it."""
    marked = head(*lines, target=target)
    handed_on.mark(marked, target, keys, NOW)
    return head(*(line.rstrip(b"\r\n") for line in marked.fields[1:]), target=target)


def test_a_sibling_is_believed():
    """And nothing of it is left for the application."""
    for late_s in (0.0, -59.0, 59.0):
        arrived = sent()
        assert handed_on.strip(arrived, (OTHER, KEY), NOW + late_s)
        assert (arrived.fields, handed_on.NAME in arrived.noted) == ([b"Host: a\r\n"], False)


@pytest.mark.parametrize(
    ("arrived", "keys", "now"),
    [
        (sent(), (OTHER,), NOW),
        (sent(), (), NOW),
        (sent(keys=()), (KEY,), NOW),
        (sent(), (KEY,), NOW + 61),
        (sent(), (KEY,), NOW - 61),
        (head(b"Drainproxy-Handoff: 1"), (KEY,), NOW),
        (head(b"Drainproxy-Handoff:"), (KEY,), NOW),
        (head(b"Drainproxy-Handoff: 1; t=%d; mac=%b" % (NOW, b"0" * 64)), (KEY,), NOW),
        (head(b"Drainproxy-Handoff: 1; t=%b; mac=%b" % (b"9" * 12, b"0" * 64)), (KEY,), NOW),
    ],
)
def test_nobody_else_is(arrived, keys, now):
    """Another key, none, another time, anything made up: it is taken off all the same."""
    assert not handed_on.strip(arrived, keys, now)
    assert not any(b"handoff" in line.lower() for line in arrived.fields)


def test_what_was_overheard_is_of_no_use_for_another_request():
    """It holds for its method and target."""
    (line,) = (each for each in sent().fields if handed_on.NAME in each.lower())
    assert not handed_on.strip(head(line.rstrip(b"\r\n"), target=b"/other"), (KEY,), NOW)


def test_a_client_can_neither_bring_one_of_its_own_nor_have_it_taken_off():
    """Twice, named by Connection, or both."""
    own = (b"Drainproxy-Handoff: 1", b"drainproxy-handoff: x")
    marked = head(b"Connection: drainproxy-handoff, close", *own)
    handed_on.mark(marked, b"/a?b=c", (KEY,), NOW)
    # What Connection names is taken off as the request goes on (headers.request_fields).
    assert handed_on.NAME not in marked.named
    marked = sent(b"Connection: drainproxy-handoff, close", *own)
    assert len([line for line in marked.fields if handed_on.NAME in line.lower()]) == 1
    assert handed_on.NAME not in marked.named
    assert handed_on.strip(marked, (KEY,), NOW)
