"""What is asked? A head becomes a request that may go on, or an error, before a byte of it is forwarded.

Every check of a request that needs nothing but its head is called here, in the order in which they count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drainproxy.errors import MalformedHead
from drainproxy.proxy.message import framing, headers, upgrade
from drainproxy.proxy.message.parser import plain_decimal

if TYPE_CHECKING:
    from drainproxy.errors import RequestError
    from drainproxy.proxy.limits.routing import Routes, RouteTimeouts
    from drainproxy.proxy.message.framing import Body
    from drainproxy.proxy.message.headers import Target
    from drainproxy.proxy.message.parser import RequestHead
    from drainproxy.proxy.settings import ProxySettings

MAX_FORWARDS: Final = 255
"""What a larger Max-Forwards becomes: no chain of proxies is that long."""

MAX_SHOWN_CHARS: Final = 200


class Request:
    """A head that has passed, and what it means."""

    __slots__ = (
        "body", "elsewhere", "for_us", "handed", "head", "target", "timeouts", "upgrade", "upgrade_ignored",
    )  # fmt: skip

    def __init__(self, head: RequestHead, target: Target, body: Body | None, timeouts: RouteTimeouts) -> None:
        self.head = head
        self.target = target
        self.body = body
        """What reads the body; None where there is none."""
        self.timeouts = timeouts
        self.upgrade = b""
        """The protocols that it would rather speak; empty for none."""
        self.upgrade_ignored = ""
        """Why its Upgrade is none, if it has one (upgrade.IGNORED)."""
        self.elsewhere: RequestError | None = None
        """Why it is not for the application of this pod, if a sibling may serve it."""
        self.handed = False
        """It says that it was handed on by a sibling: then it goes no further."""
        self.for_us = False
        """It goes no further: Max-Forwards has run out."""

    @property
    def repeatable(self) -> bool:
        """Sending it twice does what sending it once does."""
        return self.body is None and self.head.method in headers.IDEMPOTENT

    @property
    def tunnel(self) -> str:
        """What kind of tunnel it would become, as the report counts them; empty for none."""
        return upgrade.kind_of(self.upgrade) if self.upgrade else ""

    @property
    def path(self) -> str:
        """What `/status` shows of the target: no query string, which may hold secrets."""
        return self.target.target.split(b"?", 1)[0].decode("ascii", "replace")[:MAX_SHOWN_CHARS]


def receive(head: RequestHead, routes: Routes, settings: ProxySettings) -> Request:
    """Judge a head. Raises a ClientError for what must not be forwarded."""
    body = framing.request_body(head)
    if body is not None and settings.max_body_bytes is not None:
        framing.bound(body, settings.max_body_bytes)
    target = headers.check_target(head)
    request = Request(head, target, body, routes.find(head.method, target.target))
    if b"upgrade" in head.noted:
        request.upgrade, request.upgrade_ignored = upgrade.wanted(head)
    if b"max-forwards" in head.noted and head.method == b"OPTIONS":
        request.for_us = _count_down(head)
    return request


def _count_down(head: RequestHead) -> bool:
    """Take one off Max-Forwards; tell whether none was left (RFC 9110 section 7.6.2)."""
    hops = plain_decimal(head.noted.get(b"max-forwards"))
    if hops is None:
        raise MalformedHead("Max-Forwards is not one decimal")
    left = b"Max-Forwards: %d\r\n" % min(max(hops - 1, 0), MAX_FORWARDS)
    head.fields = [left if headers.name_of(line) == b"max-forwards" else line for line in head.fields]
    return hops == 0
