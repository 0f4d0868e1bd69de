"""Which protocols may a client change to, and has the application agreed? Pure (RFC 9110 section 7.8).

Heads only: no byte of another protocol is seen here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from drainproxy.proxy.message import headers
from drainproxy.proxy.message.parser import tokens

if TYPE_CHECKING:
    from drainproxy.proxy.message.parser import RequestHead, ResponseHead

_NAME = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PROTOCOL = re.compile(rb"%b(?:/%b)?" % (_NAME, _NAME))


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


def switched_to(response: ResponseHead, asked: bytes) -> bytes:
    """Return the protocol that a 101 names, lower-case; empty where it names what was not asked for."""
    named = tokens(response.noted.get(b"upgrade", b""))
    return b", ".join(named) if set(named) <= set(tokens(asked)) else b""


def kind_of(protocol: bytes) -> str:
    """Return what a tunnel is counted as."""
    return "websocket" if protocol.lower() == b"websocket" else "other"


def switching_head(response: ResponseHead) -> bytes:
    """Return the head of a 101 to send to the client."""
    upgrade = b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % response.noted[b"upgrade"]
    return b"".join((b"HTTP/1.1 101 %b\r\n" % response.reason, *headers.response_fields(response), upgrade))
