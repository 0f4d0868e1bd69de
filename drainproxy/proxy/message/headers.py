"""Which fields go on, which are dropped, which are set? Pure (RFC 9110 section 7.6).

Fields arrive without hop-by-hop and framing ones (parser.py leaves them out); order, letter case and
unknown fields are kept. Own fields are set after stripping, so that no client can remove them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from drainproxy.errors import InvalidHost, InvalidTarget, MalformedHead, MethodRefused
from drainproxy.proxy.message.field_names import (
    CLIENT_ADDRESS,
    CLIENT_SCHEME,
    HOP_BY_HOP,
    OF_CLIENTS,
    X_FORWARDED,
    X_FORWARDED_PREFIX,
    words,
)
from drainproxy.proxy.message.framing import LAST_CHUNK, Framing
from drainproxy.proxy.message.parser import KEEP_ALIVE, Line, tokens

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.parser import RequestHead, ResponseHead

_HOST: Final = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9\-._~]+)?\]|(?:[A-Za-z0-9\-._~!$&'()*+;=]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?"
)
"""uri-host [ ":" port ] of RFC 3986 without the comma, which would read as a list."""

IDEMPOTENT: Final = words(b"GET HEAD OPTIONS PUT DELETE TRACE")
"""RFC 9110 section 9.2.2."""

MAX_REMEMBERED_HOSTS: Final = 64
MAX_REMEMBERED_BYTES: Final = 256
"""Of a Host: a longer one is no name that any DNS has, and is not kept for who sent it."""
_valid_hosts: Final[set[bytes]] = set()
"""A pod is called by few names, and by each of them many times a second."""

MAX_REMEMBERED_PEERS: Final = 256
_forwarded_for: Final[dict[bytes, bytes]] = {}
"""The line of each address."""

COMMON_MAX_FIELDS: Final = 100 - 5
"""gunicorn, granian, Tomcat and Python's http.server take 100 in a head; this many before those that are
written afresh (Host, the body's length, two for an upgrade) and X-Forwarded-For."""
COMMON_MAX_HEAD_BYTES: Final = 8 * 1024 - 64
"""Tomcat takes 8 KiB; this many before X-Forwarded-For."""

_HASH: Final = 0x23
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#]*)(.*)", re.DOTALL)
_UNREMOVABLE: Final = words(b"content-length host transfer-encoding")
_PERSISTENCE: Final = words(b"close keep-alive")
_INTERPRETED: Final = HOP_BY_HOP | OF_CLIENTS | words(b"host content-length expect")
_NOT_IN_TRAILERS: Final = (
    HOP_BY_HOP
    | X_FORWARDED
    | _UNREMOVABLE
    | words(
        b"trailer content-encoding content-range content-type authorization set-cookie cookie cache-control"
        b" expect max-forwards range www-authenticate forwarded x-real-ip"
    )
)
"""Framing, routing, authentication, content fields: never meaningful in a trailer (RFC 9110 6.5.1)."""
_NOT_IN_REQUEST_TRAILERS: Final = _NOT_IN_TRAILERS | OF_CLIENTS | CLIENT_ADDRESS | CLIENT_SCHEME
"""And who the client is, besides all that begin with X_FORWARDED_PREFIX: not to be said there past what the
head has lost."""
_NOT_A_NAME: Final = re.compile(rb"[^0-9a-z]")


class Target:
    """Where a request goes: origin-form target and the Host to send."""

    __slots__ = ("host", "replaces_host", "target")

    def __init__(self, target: bytes, host: bytes, *, replaces_host: bool) -> None:
        self.target = target
        self.host = host
        self.replaces_host = replaces_host


def check_target(head: RequestHead) -> Target:
    """Return the request's target. Raises a ClientError (RFC 9112 sections 3.2 and 3.3).

    Also refuses a Connection field that names what says where the request goes or how long it is.
    """
    if head.named and not head.named.isdisjoint(_UNREMOVABLE):
        raise MalformedHead("Connection names a field that cannot be removed")
    method, target = head.method, head.target
    if method in {b"CONNECT", b"TRACE"}:
        raise MethodRefused
    host = _check_host(head)
    if target[:1] == b"/":
        if _HASH in target:
            raise InvalidTarget("a fragment is not part of a target")
        return Target(target, host, replaces_host=False)
    if target == b"*":
        if method != b"OPTIONS":
            raise InvalidTarget("* is for OPTIONS")
        return Target(target, host, replaces_host=False)
    return _absolute(head, host)


def _absolute(head: RequestHead, host: bytes) -> Target:
    """Return the origin-form of an absolute-form target (RFC 9112 section 3.2.2)."""
    match = _ABSOLUTE.fullmatch(head.target)
    if match is None or _HASH in head.target:
        raise InvalidTarget("not origin-form, absolute-form or *")
    authority, path = match[1], match[2]
    if not _HOST.fullmatch(authority):
        raise InvalidHost
    if b"host" in head.noted and host.lower() != authority.lower():
        # Two names for one request: whoever logs or routes by the other one is fooled.
        raise InvalidHost("Host and the target differ")
    if path[:1] != b"/":
        path = b"*" if not path and head.method == b"OPTIONS" else b"/" + path
    return Target(path, authority, replaces_host=True)


def _check_host(head: RequestHead) -> bytes:
    host = head.noted.get(b"host")
    if host in _valid_hosts:
        return host
    if host is None:
        if head.http_1_1:
            raise InvalidHost("missing")
        return b""
    if not _HOST.fullmatch(host):
        raise InvalidHost
    if len(_valid_hosts) < MAX_REMEMBERED_HOSTS and len(host) <= MAX_REMEMBERED_BYTES:
        _valid_hosts.add(host)
    return host


def request_fields(head: RequestHead, target: Target) -> tuple[list[Line], int]:
    """Return the fields to forward and how many underscore twins were dropped."""
    fields = head.fields
    dropped = 0
    named = head.named
    if named and named is not KEEP_ALIVE and not named <= _PERSISTENCE:
        fields = [line for line in fields if name_of(line) not in named]
    if b"expect" in head.noted and not head.http_1_1:
        # RFC 9110 section 10.1.1: it means nothing in 1.0, and what goes on is 1.1, where it would.
        fields = [line for line in fields if name_of(line) != b"expect"]
    if head.underscored:
        names = {name_of(line) for line in fields} | _INTERPRETED
        kept = [
            line
            for line in fields
            if b"_" not in (name := name_of(line)) or name.replace(b"_", b"-") not in names
        ]
        dropped = len(fields) - len(kept)
        fields = kept
    if target.replaces_host:
        host = b"Host: %b\r\n" % target.host
        fields = [host, *(line for line in fields if name_of(line) != b"host")]
    return fields, dropped


def take_away(head: RequestHead, names: frozenset[bytes]) -> None:
    """Take away at once what Connection names of `names`, which are to be set here: later it would take ours
    too (RFC 9110 section 7.6.1)."""
    named = head.named & names
    if named:
        head.named -= named
        head.fields = [line for line in head.fields if name_of(line) not in named]
        for name in named:
            head.noted.pop(name, None)


def forwarding(head: RequestHead, peer: bytes, scheme: bytes, count: int) -> bytes:
    """Return what is said of the client, of whom no field of `count` says anything: where it comes from, and
    TLS that has ended here. Host and the plain scheme the application sees for itself.

    A field that Connection names has been removed, and says nothing. Nothing is added to a head that is as
    large as common applications take: what they took without us they have to take still.
    """
    noted: Collection[bytes] = head.noted
    if head.named and not head.named <= _PERSISTENCE:
        noted = head.noted.keys() - head.named
    lines = b""
    if scheme == b"https" and CLIENT_SCHEME.isdisjoint(noted):
        lines = b"X-Forwarded-Proto: https\r\n"
    if not peer or count >= COMMON_MAX_FIELDS or head.size >= COMMON_MAX_HEAD_BYTES:
        return lines
    for name in noted:
        # Compiled, this is a fifth of `isdisjoint`.
        if name in CLIENT_ADDRESS:
            return lines
    return lines + (_forwarded_for.get(peer) or _remember(peer))


def _remember(peer: bytes) -> bytes:
    """Return the line that says where `peer` is, and keep it: who has asked once mostly asks again."""
    if len(_forwarded_for) >= MAX_REMEMBERED_PEERS:
        _forwarded_for.clear()
    line = _forwarded_for[peer] = b"X-Forwarded-For: %b\r\n" % peer
    return line


def response_fields(head: ResponseHead) -> list[Line]:
    """Return the fields to relay to the client."""
    named = head.named
    if not named or named is KEEP_ALIVE or named <= _PERSISTENCE:
        return head.fields
    named -= _UNREMOVABLE
    return [line for line in head.fields if name_of(line) not in named]


def request_head(
    head: RequestHead,
    target: Target,
    body: Body | None,
    peer: bytes,
    scheme: bytes,
    host: bytes,
    upgrade: bytes = b"",
) -> tuple[bytes, int]:
    """Return the head to send to the application, and how many fields were dropped as twins.

    `host` is for a client that sent none, `upgrade` what `upgrade.wanted` said. Framing is written afresh,
    never copied.
    """
    fields, dropped = request_fields(head, target)
    lines = [head.method, b" ", target.target, b" HTTP/1.1\r\n", *fields]
    if b"host" not in head.noted and not target.replaces_host:
        # An HTTP/1.0 client may leave it out; what is sent on is 1.1, where it is required.
        lines.append(b"Host: %b\r\n" % host)
    lines.append(forwarding(head, peer, scheme, len(fields)))
    if body is not None:
        if body.framing is Framing.LENGTH:
            lines.append(b"Content-Length: %d\r\n" % body.length)
        else:
            lines.append(b"Transfer-Encoding: chunked\r\n")
    elif b"content-length" in head.noted:
        lines.append(b"Content-Length: 0\r\n")
    if b"te" in head.noted and b"trailers" in tokens(head.noted[b"te"]):
        lines.append(b"TE: trailers\r\nConnection: TE\r\n")
    if upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade)
    lines.append(b"\r\n")
    return b"".join(lines), dropped


def interim_head(response: ResponseHead) -> bytes:
    """Return the whole of a 1xx to relay."""
    return b"".join((response.start, *response_fields(response), b"\r\n"))


def response_head(
    response: ResponseHead,
    body: Body | None,
    request: RequestHead,
    *,
    date: bytes,
    chunked: bool,
    close: bool,
) -> bytes:
    """Return the head to send to the client; `chunked` and `close` are decided by the exchange.

    `date` is the line for an answer that has none.
    """
    lines = [response.start, *response_fields(response)]
    if b"date" not in response.noted:
        lines.append(date)
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif body is not None and body.framing is Framing.LENGTH:
        lines.append(b"Content-Length: %d\r\n" % body.length)
    elif body is None:
        # Of a body that is not sent (HEAD, 304; RFC 9110 section 8.6).
        length = response.content_length
        if length is not None and response.status != 204:
            lines.append(b"Content-Length: %d\r\n" % length)
        elif request.method == b"HEAD" and b"transfer-encoding" in response.noted and request.http_1_1:
            lines.append(b"Transfer-Encoding: chunked\r\n")
    if close:
        lines.append(b"Connection: close\r\n")
    if response.status == 426 and b"upgrade" in response.noted:
        # RFC 9110 section 15.5.22: it must name the protocol that it asks for.
        lines.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % response.noted[b"upgrade"])
    lines.append(b"\r\n")
    return b"".join(lines)


def last_chunk(trailers: Sequence[Line], named: frozenset[bytes], *, of_request: bool = False) -> bytes:
    """Return the end of a chunked body, with the trailers that may go on (RFC 9110 section 6.5.1)."""
    if not trailers:
        return LAST_CHUNK
    kept = (line for line in trailers if _may_trail(name_of(line), named, of_request=of_request))
    return b"".join((b"0\r\n", *kept, b"\r\n"))


def _may_trail(name: bytes, named: frozenset[bytes], *, of_request: bool) -> bool:
    if name in named or name in _NOT_IN_TRAILERS:
        return False
    twin = twin_of(name)
    return not of_request or not (twin in _NOT_IN_REQUEST_TRAILERS or twin.startswith(X_FORWARDED_PREFIX))


def twin_of(name: bytes) -> bytes:
    """Return the name that `name`, lower-case, is taken for where only letters and digits count: CGI and what
    comes from it make one variable of X.Forwarded_For and X-Forwarded-For (RFC 3875 section 4.1.18)."""
    return _NOT_A_NAME.sub(b"-", name)


def name_of(line: Line) -> bytes:
    """Return a field line's name, lower-case."""
    return line[: line.index(b":")].lower()


def ends_with_head(head: RequestHead) -> bool:
    """Tell whether nothing belongs to the request but its head: no body, and nothing of another protocol."""
    noted = head.noted
    return b"content-length" not in noted and b"transfer-encoding" not in noted and b"upgrade" not in noted
