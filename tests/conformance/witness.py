"""h11 as the independent witness: what another implementation reads in the same bytes.

The recorder feeds it what the proxy forwarded; the verdicts feed it what the client sent and
what the application answered.  Only this file imports h11.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import h11

MAX_EVENT_BYTES = 1 << 20  # the witness must never be the limit that a case runs into

Fields = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Message:
    """One message as h11 reads it; `whole` once its end is seen."""

    start: h11.Request | h11.Response
    fields: Fields
    body: bytearray = field(default_factory=bytearray)
    trailers: Fields = field(default_factory=list)
    whole: bool = False

    @property
    def method(self) -> bytes:
        """The method (requests)."""
        return self.start.method if isinstance(self.start, h11.Request) else b""

    @property
    def target(self) -> bytes:
        """The target (requests)."""
        return self.start.target if isinstance(self.start, h11.Request) else b""

    @property
    def status(self) -> int:
        """The status code (responses)."""
        return self.start.status_code if isinstance(self.start, h11.Response) else 0


class RequestWitness:
    """Reads a stream of requests; one h11 connection a message, so that nothing is hidden."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.error = ""
        self.closing = False  # a request said that it is the last
        self._h11 = _server()

    @property
    def partial(self) -> bool:
        """Whether the bytes end inside a message."""
        inside = bool(self.messages) and not self.messages[-1].whole
        return inside or bool(self._h11.trailing_data[0])

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for a 100 before it sends its body."""
        return self._h11.they_are_waiting_for_100_continue

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes; give the messages that they complete."""
        done: list[Message] = []
        if self.error:
            return done
        try:
            self._h11.receive_data(data)
            while message := self._next():
                done.append(message)
        except h11.RemoteProtocolError as error:
            self.error = str(error)
        return done

    def _next(self) -> Message | None:
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self.messages.append(Message(event, _raw(event.headers)))
            elif isinstance(event, h11.Data):
                self.messages[-1].body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return self._finish(event)
            else:
                return None

    def _finish(self, event: h11.EndOfMessage) -> Message:
        message = self.messages[-1]
        message.trailers, message.whole = _raw(event.headers), True
        self.closing |= self._h11.their_state is h11.MUST_CLOSE
        left = self._h11.trailing_data[0]
        self._h11 = _server()
        if left:
            self._h11.receive_data(left)
        return message


@dataclass(frozen=True, slots=True)
class Count:
    """How many whole requests h11 reads before one that closes, and where it gives up."""

    whole: int
    head_error: bool
    methods: list[bytes]


def count_requests(data: bytes) -> Count:
    """Count the requests in a client's bytes, up to one that closes or an error."""
    reader, whole = RequestWitness(), 0
    for message in reader.feed(data.lstrip(b"\r\n")):
        whole += 1
        if (b"close") in dict(message.fields).get(b"connection", b"").lower():
            break
    opened = bool(reader.messages) and not reader.messages[-1].whole
    return Count(whole, bool(reader.error) and not opened, [m.method for m in reader.messages])


def read_response(data: bytes, *, method: str, ended: bool) -> Message | None:
    """Read the first final response; None where h11 refuses its head."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_EVENT_BYTES)
    reader.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    reader.send(h11.EndOfMessage())
    message: Message | None = None
    try:
        reader.receive_data(data)
        if ended:
            reader.receive_data(b"")
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Response):
                message = Message(event, _raw(event.headers))
            elif isinstance(event, h11.Data) and message:
                message.body += event.data
            elif isinstance(event, h11.EndOfMessage) and message:
                message.whole = True
                return message
            elif not isinstance(event, h11.InformationalResponse):
                return message
    except h11.RemoteProtocolError:
        return message


def _server() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_EVENT_BYTES)


def _raw(headers: Any) -> Fields:  # h11 does not export the type
    return [(bytes(name), bytes(value)) for name, value in headers.raw_items()]
