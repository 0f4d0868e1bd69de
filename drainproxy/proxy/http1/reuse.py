"""May the application's connection be used again, and by whom?

By nobody, where a parser behind it may still hold something of the last request; by its client alone, where
the application may hold whoever speaks on it for the user who logged in over it. Bare clients share no
connections: what an application keeps with one between two requests was harmless without us.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from drainproxy.proxy.http1.private import Private
from drainproxy.proxy.message.field_names import words

if TYPE_CHECKING:
    from drainproxy.proxy.http1.private import Holder
    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.parser import Noted, RequestHead, ResponseHead
    from drainproxy.proxy.upstream.connection import UpstreamConnection
    from drainproxy.proxy.upstream.pool import Pool

_OF_CONNECTIONS: Final = re.compile(
    rb"(?:^|,)[ \t]*(?:ntlm|negotiate|nego2|kerberos|credssp)(?=[ \t,]|$)", re.IGNORECASE
)
"""Schemes that authenticate the connection: later requests on it carry no credentials, and are answered as
the user who logged in (RFC 4559 section 6; NTLM, Kerberos and CredSSP over HTTP do the same)."""

_WITHOUT_CONTENT: Final = words(b"GET HEAD DELETE OPTIONS")
"""Content has no meaning in them (RFC 9110 section 9.3.1): some applications do not read it, and would take
it for the next request."""

_KEEP_ALIVE_TIMEOUT: Final = re.compile(rb"(?:^|[,;\s])timeout=([0-9]{1,9})(?:$|[,;\s])")


def sent(upstream: UpstreamConnection, head: RequestHead, body: Body | None) -> None:
    """Note what a request with a body, or with credentials, makes of the connection it goes on."""
    if body is not None and head.method in _WITHOUT_CONTENT:
        upstream.spent = True
    if _OF_CONNECTIONS.search(head.noted.get(b"authorization", b"")):
        upstream.private = True


def answered(
    upstream: UpstreamConnection, response: ResponseHead, body: Body | None, *, request_read: bool
) -> bool:
    """Note what a response's head says; tell whether a connection ends of which its client must hear.

    Asked where its client's ends anyway, where somebody has logged in over it, and where it has one of two
    fields that may tell of a login.

    That one would go on as nobody. `request_read`: the request was complete by then.
    """
    if not request_read or (body is not None and body.trailers):
        # Of an early answer nobody says what became of the rest of the request; of trailers see give_back.
        upstream.spent = True
    noted = response.noted
    if b"persistent-auth" in noted or _OF_CONNECTIONS.search(noted.get(b"www-authenticate", b"")):
        upstream.private = True
    return upstream.private and (upstream.spent or _ends(response))


def give_back(
    client: Holder, pool: Pool, upstream: UpstreamConnection, response: ResponseHead, body: Body | None
) -> None:
    """Have a connection whose request and answer are complete wait for the next one, or close it.

    Closed it is after request trailers: aiohttp's parser holds the last one, which would be a field of the
    next request's head.
    """
    noted = response.noted
    # Said twice, since a call of its own would cost every request one.
    ends = not response.http_1_1 or b"close" in response.named or (response.status == 204 and _ends(response))
    spent = upstream.spent or (
        body is not None and (body.trailers or upstream.transport.get_write_buffer_size() > 0)
    )
    if spent or upstream.lost or ends:
        pool.discard(upstream)
    elif upstream.private:
        client.private = Private(client, pool, upstream)
    else:
        pool.give_back(upstream, keep_for(noted, pool.idle_s) if b"keep-alive" in noted else pool.idle_s)


def keep_for(noted: Noted, limit_s: float) -> float:
    """Return for how long a connection may idle after a response with these fields, in seconds.

    An announced `Keep-Alive: timeout` is undercut by a second, or by half if it is shorter than two.
    """
    if match := _KEEP_ALIVE_TIMEOUT.search(noted.get(b"keep-alive", b"")):
        announced = float(match[1])
        return min(limit_s, max(announced - 1.0, announced / 2))
    return limit_s


def _ends(response: ResponseHead) -> bool:
    """Tell whether this answer is the last one on its connection (RFC 9112 section 9.3).

    A 204 that announces a body may be followed by one (RFC 9110 section 8.6).
    """
    if not response.http_1_1 or b"close" in response.named:
        return True
    if response.status != 204:
        return False
    noted = response.noted
    return b"transfer-encoding" in noted or noted.get(b"content-length", b"0") != b"0"
