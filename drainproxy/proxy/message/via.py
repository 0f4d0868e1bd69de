"""Through whom has a request come, and has it been here before (RFC 9110 section 7.6.3)? Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from drainproxy.errors import LoopDetected

if TYPE_CHECKING:
    from drainproxy.proxy.message.filters import Hop
    from drainproxy.proxy.message.parser import RequestHead


class Via:
    """See RequestFilter. `pseudonym`: this process's."""

    sets: ClassVar = frozenset((b"via",))

    def __init__(self, pseudonym: bytes) -> None:
        self._pseudonym = pseudonym

    def prepare(self, head: RequestHead, hop: Hop) -> None:
        """Add this hop. Raises LoopDetected for a request that was here before."""
        if self._pseudonym in head.noted.get(b"via", b""):
            raise LoopDetected
        head.fields = [*head.fields, b"Via: 1.%d %b\r\n" % (head.http_1_1, self._pseudonym)]
