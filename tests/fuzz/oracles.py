"""What must hold for any bytes: one oracle a door through which bytes come in.

Each takes bytes, and places to cut them, and raises AssertionError where an invariant of the
conformance runner is broken. Called by hypothesis (`test_oracles`) and by atheris (`make fuzz`).
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from drainproxy.errors import RequestError, UpstreamMalformed
from drainproxy.proxy.message import framing, headers
from drainproxy.proxy.message.framing import Framing
from drainproxy.proxy.message.parser import RequestHead, ResponseReader
from drainproxy.proxy.wire import proxy_protocol
from tests.conformance import answers, grammar, invariants, requests, witness
from tests.conformance.answers import Ended
from tests.fuzz.course import Course, taken
from tests.fuzz.pieces import pieces

if TYPE_CHECKING:
    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.parser import ResponseHead


def client_bytes(data: bytes, cuts: list[int]) -> None:
    """Whatever a client sends: the application sees a beginning of what two strict readers see in it."""
    course = taken(data, cuts)
    same_however_cut(course, taken(data, []))
    same_however_cut(course, taken(data, list(range(len(data)))))
    reading = requests.read(data)
    assert len(course.forwarded) + course.answered <= reading.count, f"more than was sent: {course.end}"
    came = b"".join(course.forwarded)
    theirs = witness.RequestWitness()
    theirs.feed(came)
    assert not theirs.error, theirs.error
    assert not theirs.partial
    again = requests.read(came)
    assert (again.count, again.end) == (len(course.forwarded), requests.End.CLEAN), again.why
    assert len(theirs.messages) == again.count
    sent = [one for one in reading.requests if not for_us(one)] if course.answered else reading.requests
    for asked, one, message in zip(sent, again.requests, theirs.messages, strict=False):
        assert (one.method, one.target, one.body) == (asked.method, asked.target, asked.body)
        assert (message.method, message.target, bytes(message.body)) == (one.method, one.target, one.body)
        if asked.host:
            assert one.host == asked.host
        assert not invariants._fields(message), invariants._fields(message)
        end_to_end(asked.fields, one.fields)


def for_us(request: requests.Request) -> bool:
    """Tell whether a request goes no further (RFC 9110 7.6.2)."""
    values = grammar.values(request.fields, b"max-forwards")
    return request.method == b"OPTIONS" and bool(values) and values[0].isdigit() and not int(values[0])


def same_however_cut(one: Course, other: Course) -> None:
    """Where the network cuts is nobody's choice: the same requests, and the same kind of end.

    Of two faults in one head, the one that has come may be told before the other: a refusal may differ
    in its words.
    """
    assert one.forwarded == other.forwarded
    assert one.answered == other.answered
    assert one.end == other.end or (one.refused and other.refused), (one.end, other.end)


HOP = {
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization",
    b"te", b"transfer-encoding", b"upgrade", b"http2-settings", b"content-length", b"host",
    b"max-forwards", b"expect",
}  # fmt: skip


def end_to_end(sent: grammar.Fields, came: grammar.Fields) -> None:
    """Fields that are not for this hop pass with their values in order, or were dropped as twins."""
    dropped = HOP | set(grammar.members(sent, b"connection"))
    for name in {key.lower() for key, _ in sent} - dropped:
        values = grammar.values(came, name)
        twin = b"_" in name and not values
        assert twin or values == grammar.values(sent, name), name
    # RFC 9110 section 7.6.1: what is for one hop does not go on; TE has a Connection of our own.
    for name in dropped - HOP - {b"close", b"keep-alive", b"x-forwarded-for"}:
        assert name.startswith(b"x-forwarded-") or not grammar.values(came, name), name


def application_bytes(data: bytes, cuts: list[int], method: bytes = b"GET") -> None:
    """Whatever an application sends: a client gets one readable answer, or an honest failure."""
    ways = [answer(data, method, some) for some in (cuts, [], list(range(len(data))))]
    assert len({way.whole for way in ways}) == 1, "whether the answer is whole depends on the cuts"
    if ways[0].whole:
        assert ways[0].out == ways[1].out == ways[2].out, "the answer depends on the cuts"
    for way in ways:
        readable(way, method)
    theirs = answers.read(data, [method], Ended.FIN)
    if ways[0].whole and theirs.replies and theirs.replies[0].complete:
        (ours,) = answers.read(ways[0].out, [method], Ended.FIN).replies
        assert (ours.status, ours.body) == (theirs.replies[0].status, theirs.replies[0].body)


def proxy_bytes(data: bytes, cuts: list[int]) -> None:
    """Whatever a balancer begins with: once it is decided it stays so, and an address is an address."""
    decided: tuple[bytes | None, int] | str | None = None
    for size in sorted({*range(0, len(data), max(1, len(data) // 100)), len(data), *cuts}):
        try:
            found: tuple[bytes | None, int] | str | None = proxy_protocol.read(data[:size])
        except ValueError:
            found = "refused"
        assert decided is None or found == decided, f"{decided} became {found}"
        decided = found
    if isinstance(decided, tuple):
        address, size = decided
        assert size <= len(data)
        assert address is None or str(ipaddress.ip_address(address.decode("ascii"))).encode() == address
        assert address is None or re.fullmatch(rb"[0-9a-f:.]+", address), address


def readable(answer: Answer, method: bytes) -> None:
    """Hold what a client gets against the grammar: whole where it is whole, and visibly cut elsewhere."""
    # DEL in a value of an answer passes (docs/http.md): the grammar has no other fault with it.
    out = re.sub(rb"(?<=:)[^\r\n]*", lambda value: value[0].replace(b"\x7f", b"?"), answer.out)
    read = answers.read(out, [method], Ended.FIN)
    assert not read.fault, read.fault
    assert not answer.whole or not read.rest
    assert len(read.replies) <= 1
    for reply in read.replies:
        assert reply.complete == answer.whole, "cut where it is whole, or whole where it is cut"
        for name, value in reply.fields:
            assert grammar.TOKEN_ONLY.fullmatch(name)
            assert not any(byte < 0x20 and byte != 0x09 for byte in value)


class Answer:
    """What a 1.1 client gets of an application's bytes, which end with a FIN."""

    def __init__(self, method: bytes) -> None:
        self.out = b""
        self.whole = False
        self._request = RequestHead()
        self._request.method = method
        self._reader = ResponseReader()
        self._head: ResponseHead | None = None
        self._body: Body | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises what the proxy's own readers raise."""
        while self._head is None and data and (read := self._reader.feed(data)):
            response, data = read
            if response.status == 101:
                raise UpstreamMalformed("101 without an upgrade")
            if response.status < 200:
                self.out += response.start + b"".join(headers.response_fields(response)) + b"\r\n"
            else:
                self._begin(response)
        if self._body is not None and data and not self.whole:
            self._relay(self._body, data)

    def end(self) -> None:
        """The connection ends."""
        if self._body is not None and self._body.framing is Framing.UNTIL_CLOSE:
            self.out += framing.LAST_CHUNK
            self.whole = True

    def _begin(self, response: ResponseHead) -> None:
        self._head = response
        self._body = body = framing.response_body(response, self._request.method)
        self.whole = body is None
        chunked = body is not None and body.framing is not Framing.LENGTH
        self.out += headers.response_head(
            response, body, self._request, date=b"Date: now\r\n", chunked=chunked, close=False
        )

    def _relay(self, body: Body, data: bytes) -> None:
        assert self._head is not None
        payload, rest = body.feed(data)
        if body.framing is not Framing.LENGTH:
            payload = b"".join(framing.chunk(payload[at : at + 1]) for at in range(len(payload)))
            if rest is not None:
                payload += headers.last_chunk(body.trailers, self._head.named)
        self.out += payload
        self.whole = rest is not None


def answer(data: bytes, method: bytes, cuts: list[int]) -> Answer:
    """Relay bytes cut at these places. A byte is a chunk: where chunks are cut means nothing."""
    found = Answer(method)
    try:
        for piece in pieces(data, cuts):
            found.feed(piece)
        found.end()
    except (RequestError, ValueError):
        assert not found.whole, "a fault after the end"
    return found
