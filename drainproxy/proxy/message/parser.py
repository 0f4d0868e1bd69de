"""Bytes to heads: the start-line and fields of a request or a response, parsed by llhttp.

The only import of httptools. It runs everything it is given in one call and cannot pause, so it is given
one head at a time, up to the empty line; what follows is handed back untouched. A reader is fed as bytes
come, so that a fault shows as soon as it can be seen.

The two readers repeat what runs for every field: in a method that both inherit, CPython's inline caches miss
whenever they take turns, which costs 0.4 us a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import httptools

from drainproxy import errors
from drainproxy.proxy.message import lenient
from drainproxy.proxy.message.field_names import OF_REQUESTS, OF_RESPONSES
from drainproxy.proxy.message.http2_preface import Http2Preface
from drainproxy.proxy.message.status_line import OK_LINE, OK_LINE_BYTES, USUAL, unusual
from drainproxy.proxy.wire.weights import OBJECT_BYTES, READER_BYTES

if TYPE_CHECKING:
    from drainproxy.proxy.settings import ProxySettings

Line = bytes
"""A field as it is sent: `Name: value` and CRLF."""
Noted = dict[bytes, bytes]
"""Lower-case name -> value; values of a repeated field joined with commas (RFC 9110 section 5.3)."""

_END: Final = b"\r\n\r\n"
_EMPTY_LINE: Final = frozenset((b"", b"\r", b"\n"))
"""How one begins."""
_SPACE: Final = 0x20
"""The last byte of a value is at most this if it is a blank: llhttp lets no other control character in."""
_HTTP_2: Final = b"PRI * HTTP/2.0\r\n\r\n"
_HTTP_2_BYTES: Final = len(_HTTP_2)
_NONE: Final[frozenset[bytes]] = frozenset()
KEEP_ALIVE: Final = frozenset((b"keep-alive",))
"""What nearly every Connection names that there is: the same set each time."""
_USUAL: Final = {b"keep-alive": KEEP_ALIVE, b"close": frozenset((b"close",))}
_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
MAX_LENGTH_DIGITS: Final = 18
"""A Content-Length with more is none that any body has."""
MAX_RESPONSE_HEAD_BYTES: Final = 256 * 1024
MAX_RESPONSE_FIELDS: Final = 1000
"""An application's own heads are bounded only against a runaway: they were fine without us."""


class RequestHead:
    """What a client asked. `fields` holds the end-to-end fields in order, `noted` those that mean something
    here, by lower-case name."""

    __slots__ = (
        "fields", "http_1_1", "method", "named", "noted", "padded", "size", "span", "target", "underscored",
    )  # fmt: skip
    span: Any
    """Of its trace; not even unset where there is none (tracing.py)."""

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.http_1_1 = True
        self.fields: list[Line] = []
        self.noted: Noted = {}
        self.named = _NONE
        """What Connection names, lower-case: `close`, `keep-alive` and fields for this hop only."""
        self.size = 0
        """Bytes of it as they came."""
        self.padded = False
        """Some value has a blank behind it."""
        self.underscored = False
        """Some field's name has an underscore: headers.py looks whether it is a twin."""


class ResponseHead:
    """What the application answered. `fields`, `noted` and `named` as in RequestHead."""

    __slots__ = ("content_length", "fields", "http_1_1", "named", "noted", "padded", "start", "status")

    def __init__(self) -> None:
        self.status = 0
        self.start = b""
        """The line that it begins with, as it goes on."""
        self.http_1_1 = True
        self.fields: list[Line] = []
        self.noted: Noted = {}
        self.named = _NONE
        self.content_length: int | None = None
        """None where it has none, or no plain one."""
        self.padded = False


class _Parser(Protocol):
    def feed_data(self, data: bytes, /) -> None: ...
    def should_keep_alive(self) -> bool: ...


class RequestReader:
    """Reads one request head after another from a client connection."""

    __slots__ = (
        "_complete", "_head", "_left_out", "_max_fields", "_max_head_bytes", "_max_line_bytes", "_parser",
        "_partial", "_skipped", "begun",
    )  # fmt: skip

    def __init__(self, limits: ProxySettings) -> None:
        self._max_fields = limits.max_fields
        self._max_head_bytes = limits.max_head_bytes
        self._max_line_bytes = limits.max_request_line_bytes
        self._parser: _Parser | None = None
        self._head = RequestHead()
        self._partial = b""
        self._complete = self._left_out = 0
        """How many heads, and fields of this one that are not among its fields, the parser has told of."""
        self._skipped = False
        self.begun = False
        """A byte of a head was seen and its end was not."""

    @property
    def held_bytes(self) -> int:
        """How much a head holds whose end is not here: its bytes, its fields once more, and what reads it."""
        objects = (len(self._head.fields) + len(self._head.noted)) * OBJECT_BYTES
        return 2 * len(self._partial) + objects + READER_BYTES

    def feed(self, data: bytes) -> tuple[RequestHead, bytes] | None:
        """Return the next head and the bytes after it, or None while it is incomplete.

        Raises a ClientError (4xx, 501, 505) for anything that is not one unambiguous HTTP/1 head, and
        Http2Preface for what claims to be none.
        """
        known = len(self._partial)
        if known and self.begun:
            data = self._partial + data
        elif known or data[:1] in _EMPTY_LINE:
            data = self._without_empty_line(self._partial + data)
            known = 0
            self._partial = b""
            if data in {b"", b"\r"}:
                self._partial = data
                return None
        end = data.find(_END, max(0, known - 3)) if known else data.find(_END)
        if end < 0:
            self.begun = True
            self._bound(data)
            self._parse(data, known, len(data))
            if self._complete:
                raise errors.MalformedHead("the head has no end")
            self._partial = data
            return None
        end += 4
        self._bound(data, end)
        self._parse(data, known, end)
        head = self._head
        self._finish(head, data, end)
        return head, data[end:]

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field from the parser (httptools callback). Must not raise: that poisons the parser."""
        known = OF_REQUESTS.known.get(name) or OF_REQUESTS.learn(name)
        head = self._head
        if value and value[-1] <= _SPACE:
            head.padded = True
        if known.noted:
            noted, lower = head.noted, known.lower
            noted[lower] = noted[lower] + b", " + value if lower in noted else value
            if known.left_out:
                self._left_out += 1
                return
        elif known.underscored:
            head.underscored = True
        head.fields.append(known.begins + value + b"\r\n")

    def on_headers_complete(self) -> None:
        """Take the end of the head from the parser (httptools callback)."""
        self._complete += 1

    def forget(self) -> None:
        """Hold nothing. Breaks the cycle with the parser, so that a closed connection is freed at once."""
        self._parser = None
        self._head, self._partial, self.begun = RequestHead(), b"", False

    def _bound(self, data: bytes, end: int | None = None) -> None:
        line_end = self._max_line_bytes + 2
        if len(data) >= line_end and data.find(b"\r\n", 0, line_end) < 0:
            raise errors.TargetTooLong
        many = end is None and data.count(b"\r\n") - 1 > self._max_fields
        if many or (len(data) if end is None else end) > self._max_head_bytes:
            raise errors.FieldsTooLarge

    def _parse(self, data: bytes, start: int, end: int) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(data if start == 0 and end == len(data) else data[start:end])
        except httptools.HttpParserUpgrade:
            # CONNECT or Upgrade: whether there is a tunnel is decided elsewhere. The parser is used up.
            self._parser = None
        except httptools.HttpParserError as fault:
            raise _blame(data, fault) from None

    def _finish(self, head: RequestHead, data: bytes, end: int) -> None:
        if end == _HTTP_2_BYTES and data[:end] == _HTTP_2:
            raise Http2Preface(data[end:])
        if self._complete != 1:
            raise errors.MalformedHead("more or less than one head before the empty line")
        if len(head.fields) + self._left_out > self._max_fields:
            raise errors.FieldsTooLarge
        parts = data[: data.find(b"\r\n")].split(b" ")
        if len(parts) != 3:
            raise errors.MalformedHead("a request line is three words")
        head.method, head.target, version = parts
        if version == b"HTTP/1.0":
            head.http_1_1 = False
        elif version != b"HTTP/1.1":
            is_http = version[:5] == b"HTTP/" and version[5:6] != b"0"
            raise errors.UnsupportedVersion if is_http else errors.MalformedHead
        head.size = end
        if head.padded:
            _trim(head)
        if (named := head.noted.get(b"connection")) is not None:
            head.named = _nominated(named)
        if b"content-length" in head.noted or b"transfer-encoding" in head.noted:
            # llhttp now expects a body, which it will not see: framing.py reads it.
            self._parser = None
        self._head = RequestHead()
        self._partial = b""
        self._complete = self._left_out = 0
        self.begun = False
        self._skipped = False

    def _without_empty_line(self, data: bytes) -> bytes:
        """Leave out one empty line before a request line (RFC 9112 section 2.2), however it is cut up."""
        if data[:2] == b"\r\n" and not self._skipped:
            self._skipped = True
            data = data[2:]
        if data[:1] == b"\n" or (data[:1] == b"\r" and len(data) > 1):
            raise errors.MalformedHead("line ends before a request line")
        return data


def _nominated(value: bytes) -> frozenset[bytes]:
    usual = _USUAL.get(value)
    return frozenset(tokens(value)) if usual is None else usual


def plain_decimal(value: bytes | None) -> int | None:
    """Return what a value says that is one decimal; None where it is anything else, or missing."""
    if value is None or not value.isdigit() or len(value) > MAX_LENGTH_DIGITS:
        return None
    return int(value)


def _trim(head: RequestHead | ResponseHead) -> None:
    """Take the whitespace behind values away (RFC 9112 section 5.1): llhttp takes spaces alone."""
    split = (line.partition(b": ") for line in head.fields)
    head.fields = [b"%b: %b\r\n" % (name, value.strip()) for name, _, value in split]
    head.noted = {name: value.strip(b" \t") for name, value in head.noted.items()}


def tokens(value: bytes) -> list[bytes]:
    """Return the members of a comma-separated list, lower-case."""
    return [token.strip(b" \t").lower() for token in value.split(b",")]


def _blame(data: bytes, fault: httptools.HttpParserError) -> errors.RequestError:
    """Turn a parser's fault into the error whose status says it best."""
    if isinstance(fault, httptools.HttpParserInvalidMethodError):
        method = data.split(b" ", 1)[0]
        known_shape = 0 < len(method) <= 32 and _TOKEN.issuperset(method) and method[:1].isalpha()
        return errors.UnknownMethod() if known_shape else errors.MalformedHead("the method is not a token")
    if str(fault) == "Invalid HTTP version":
        is_http = b" HTTP/" in data and b" HTTP/0" not in data
        return errors.UnsupportedVersion() if is_http else errors.MalformedHead()
    return errors.MalformedHead(str(fault))


class ResponseReader:
    """Reads the response heads of one connection to the application."""

    __slots__ = ("_clean", "_complete", "_doubtful", "_head", "_parser", "_partial")

    def __init__(self) -> None:
        self._head = ResponseHead()
        self._parser: _Parser | None = None
        self._partial = b""
        self._complete = 0
        self._clean = False
        """The parser has seen the whole of its message, and can be given another."""
        self._doubtful = False
        """It has refused a head that may have one reading all the same."""

    def feed(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """Return the head and the bytes after it, or None while it is incomplete.

        Raises UpstreamMalformed for anything that is not one unambiguous HTTP/1 response head.
        """
        known = len(self._partial)
        if known:
            data = self._partial + data
        end = data.find(_END, max(0, known - 3)) if known else data.find(_END)
        if end < 0:
            if len(data) > MAX_RESPONSE_HEAD_BYTES:
                raise errors.UpstreamMalformed("the head is too large")
            self._parse(data[known:])
            self._partial = data
            return None
        end += 4
        self._parse(data[known:end])
        if self._doubtful:
            self._read_again(data[:end])
        head = self._head
        if self._complete != 1 or len(head.fields) > MAX_RESPONSE_FIELDS or end > MAX_RESPONSE_HEAD_BYTES:
            raise errors.UpstreamMalformed("the head is too large or has no end")
        if head.padded:
            _trim(head)
        start = data[:OK_LINE_BYTES]
        if start != OK_LINE:
            # Looked for only here: to find it costs as much as to take in a field or two.
            start = data[: data.find(b"\r\n") + 2]
        status = USUAL.get(start)
        if status is None:
            status, start, head.http_1_1 = unusual(start[:-2])
        head.status, head.start = status, start
        if (named := head.noted.get(b"connection")) is not None:
            head.named = _nominated(named)
        head.content_length = plain_decimal(head.noted.get(b"content-length"))
        rest = data[end:]
        self._start_over(rest, head.content_length)
        return head, rest

    def forget(self) -> None:
        """Break the cycle with the parser, so that a closed connection is freed at once."""
        self._parser = None

    def _start_over(self, rest: bytes, length: int | None) -> None:
        """Be ready for the next head. A parser costs as much as parsing: keep one that can be used again."""
        self._head = ResponseHead()
        self._partial = b""
        self._complete = 0
        if not self._clean and rest and length == len(rest):
            try:  # noqa: SIM105 - suppress() costs more than this whole branch
                self._parse(rest)
            except errors.UpstreamMalformed:
                # Bytes behind a 204 that closes, perhaps: no fault of the head.
                pass
        if not self._clean:
            self._parser = None
        self._clean = False

    def on_message_complete(self) -> None:
        """Take the end of the message from the parser (httptools callback)."""
        # After what it takes for a close (Proxy-Connection too), llhttp refuses every byte.
        self._clean = self._parser is not None and self._parser.should_keep_alive()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field from the parser (httptools callback). Must not raise."""
        known = OF_RESPONSES.known.get(name) or OF_RESPONSES.learn(name)
        head = self._head
        if value and value[-1] <= _SPACE:
            head.padded = True
        if known.noted:
            noted, lower = head.noted, known.lower
            noted[lower] = noted[lower] + b", " + value if lower in noted else value
            if known.left_out:
                return
        head.fields.append(known.begins + value + b"\r\n")

    def on_headers_complete(self) -> None:
        """Take the end of the head from the parser (httptools callback)."""
        self._complete += 1

    def _read_again(self, data: bytes) -> None:
        """Take a head that llhttp has refused, if there is one reading of it."""
        try:
            fields = lenient.read_fields(data)
        except ValueError as fault:
            raise errors.UpstreamMalformed(str(fault)) from None
        self._head, self._parser, self._doubtful = ResponseHead(), None, False
        for name, value in fields:
            self.on_header(name, value)
        self._complete = 1

    def _parse(self, data: bytes) -> None:
        if self._doubtful:
            return
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpResponseParser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._parser = None
        except httptools.HttpParserError as fault:
            self._doubtful = not self._complete and str(fault) in lenient.FAULTS
            if not self._doubtful:
                raise errors.UpstreamMalformed(str(fault)) from None
