"""What is asked? A head becomes a request that may go on, or an error, before a byte of it is forwarded.

Every check of a request that needs nothing but its head is called here, in the order in which they count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drainproxy.errors import UpgradeUnsupported
from drainproxy.proxy import framing, headers

if TYPE_CHECKING:
    from drainproxy.proxy.framing import Body
    from drainproxy.proxy.headers import Target
    from drainproxy.proxy.heads import RequestHead


class Request:
    """A head that has passed, and what it means."""

    __slots__ = ("body", "head", "target")

    def __init__(self, head: RequestHead, target: Target, body: Body | None) -> None:
        self.head = head
        self.target = target
        self.body = body
        """What reads the body; None where there is none."""


def receive(head: RequestHead) -> Request:
    """Judge a head. Raises a ClientError for what must not be forwarded."""
    body = framing.request_body(head)
    target = headers.check_target(head)
    if b"upgrade" in head.named and body is None and headers.wants_upgrade(head):
        raise UpgradeUnsupported
    return Request(head, target, body)
