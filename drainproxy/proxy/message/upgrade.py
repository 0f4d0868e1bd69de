"""Which protocols may a client change to, and has the application agreed? Pure (RFC 9110 section 7.8).

Heads only: no byte of another protocol is seen here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from drainproxy.errors import UpstreamMalformed
from drainproxy.proxy.message import headers
from drainproxy.proxy.message.framing import Framing
from drainproxy.proxy.message.parser import tokens

if TYPE_CHECKING:
    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.parser import RequestHead, ResponseHead

_NAME: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PROTOCOL: Final = re.compile(rb"%b(?:/%b)?" % (_NAME, _NAME))


IGNORED = ("h2c", "http_1_0", "malformed", "not_nominated")
"""Why an Upgrade is not taken seriously: a closed set of labels."""


def wanted(head: RequestHead) -> tuple[bytes, str]:
    """Return the protocols of an Upgrade to take seriously, as they are sent on, and why there are none.

    RFC 9110 section 7.8 has no rule about methods and bodies. h2c is ignored, since RFC 9113 has removed it
    and clients ask for it routinely; what is no list of protocols is, too.
    """
    if not head.http_1_1:
        return b"", "http_1_0"
    if b"upgrade" not in head.named:
        return b"", "not_nominated"
    asked = [each.strip(b" \t") for each in head.noted[b"upgrade"].split(b",")]
    wanted = [each for each in asked if each and each.lower() != b"h2c"]
    if not all(map(_PROTOCOL.fullmatch, wanted)) or not any(asked):
        return b"", "malformed"
    return b", ".join(wanted), "" if wanted else "h2c"


def agreed(response: ResponseHead, asked: bytes, unread: Body | None) -> bytes:
    """Return the protocol that a 101 names, lower-case; `unread`: the request's body, unless it was read.

    Raises UpstreamMalformed where nobody asked for that.
    """
    named = tokens(response.noted.get(b"upgrade", b""))
    if not named or not set(named) <= set(tokens(asked)) or not response.http_1_1:
        raise UpstreamMalformed("101 to what was not asked for")
    if unread is not None and unread.framing is Framing.CHUNKED:
        # The rest of it and what follows could not be told apart any more.
        raise UpstreamMalformed("101 in the middle of a chunked body")
    return b", ".join(named)


def kind_of(protocol: bytes) -> str:
    """Return what a tunnel is counted as."""
    return "websocket" if protocol.lower() == b"websocket" else "other"


def switching_head(response: ResponseHead) -> bytes:
    """Return the head of a 101 to send to the client."""
    upgrade = b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % response.noted[b"upgrade"]
    return b"".join((response.start, *headers.response_fields(response), upgrade))
