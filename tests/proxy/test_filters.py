"""Every filter: what it sets on a request goes to the application, whatever the client says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.metrics import Metrics
from drainproxy.proxy import filters
from drainproxy.proxy.accounting.tracing import Tracing
from drainproxy.proxy.message import framing, headers
from drainproxy.proxy.transport_settings import TransportSettings
from tests.proxy import feeding

if TYPE_CHECKING:
    from drainproxy.proxy.message.filters import RequestFilter, RequestFilters

START = b"GET / HTTP/1.1\r\nHost: shop\r\n"
ALONE: dict[str, dict[str, Any]] = {
    "append": {"forwarding": "append"},
    "replace": {"forwarding": "replace"},
    "via": {"via": True},
    "request start": {"request_start": True},
}
"""The settings of each filter but that of traces."""
EVERY: dict[str, Any] = {"forwarding": "append", "via": True, "request_start": True}


@pytest.fixture(scope="module")
def tracing():
    """It has no receiver, and samples nothing."""
    tracing = Tracing("http://127.0.0.1:9/v1/traces", 0.0, Metrics())
    tracing._spans.shutdown()
    return tracing


def made(name: str, tracing: Tracing) -> tuple[RequestFilters, RequestFilter]:
    """One filter, as a process has it that has no other."""
    settings = TransportSettings(**ALONE.get(name, {}))
    every = filters.build(settings, tracing if name == "trace" else None)
    assert every is not None
    (one,) = every._filters
    return every, one


def sent(every: RequestFilters, lines: bytes = b"") -> dict[bytes, bytes]:
    """What the application gets: lower-case names, and their values as one list."""
    head = feeding.request(START + lines + b"\r\n")
    body, target = framing.request_body(head), headers.check_target(head)
    every.prepare(head, b"203.0.113.7", b"http", target.host)
    raw, _ = headers.request_head(head, target, body, peer=b"", scheme=b"http", host=b"app")
    fields: dict[bytes, bytes] = {}
    for line in raw.split(b"\r\n")[1:-2]:
        name, _, value = line.partition(b": ")
        fields[name.lower()] = b"|".join((*filter(None, (fields.get(name.lower()),)), value))
    return fields


@pytest.mark.parametrize("name", [*ALONE, "trace"])
def test_no_client_can_have_a_field_removed_that_is_set_here(name, tracing):
    """Connection takes away what came, and nothing else (RFC 9110 section 7.6.1)."""
    every, one = made(name, tracing)
    plain = sent(every)
    del plain[b"host"]
    assert plain
    assert plain.keys() <= one.sets, "a filter sets what it does not own up to"
    for field in plain:
        told = sent(every, b"Connection: close, %b, X-Own\r\n%b: theirs\r\nX-Own: 1\r\n" % (field, field))
        assert told.keys() == {b"host", *plain}
        assert b"theirs" not in told[field]


def test_no_two_filters_set_the_same(tracing):
    every = filters.build(TransportSettings(**EVERY), tracing)
    assert every is not None
    assert sum(len(one.sets) for one in every._filters) == len(every._sets)


def test_nobody_pays_for_filters_that_are_not_asked_for():
    assert filters.build(TransportSettings()) is None


def test_every_process_has_a_pseudonym_of_its_own():
    one, two = (filters.build(TransportSettings(via=True)) for _ in range(2))
    assert one is not None
    assert two is not None
    assert sent(one)[b"via"] != sent(two)[b"via"]


def test_a_request_says_when_it_came(monkeypatch):
    """In the form that Puma and Rack read, and whatever its client claims."""
    monkeypatch.setattr("time.time", lambda: 1796000000.25)
    every = filters.build(TransportSettings(request_start=True))
    assert every is not None
    told = sent(every, b"X-Request-Start: t=1.0\r\nx-request-start: t=2.0\r\n")
    assert told[b"x-request-start"] == b"t=1796000000.250000"
