"""What is set on a request before it goes on: one filter after the other, each with fields of its own. Pure.

Called by http1/connection.py, where there are any; proxy/filters.py makes them, once for a process. What a
filter sets stays set, whatever the client's Connection names: that is seen to here, and by no filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from drainproxy.proxy.message.headers import take_away

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drainproxy.proxy.message.parser import RequestHead
    from drainproxy.proxy.message.trust import Trust


class Hop(NamedTuple):
    """How a request has come here."""

    peer: bytes
    """Whose connection it is."""
    client: bytes
    """Who it is from, by those whose word counts."""
    scheme: bytes
    host: bytes
    """Empty where it names none."""


class RequestFilter(Protocol):
    """Sets something on every request."""

    @property
    def sets(self) -> frozenset[bytes]:
        """The names of all fields that it may set, lower-case."""

    def prepare(self, head: RequestHead, hop: Hop) -> None:
        """Change the fields of a request that may go on. Raises a RequestError for one that may not."""


class RequestFilters:
    """All that a process has. `trust` says who the client is."""

    def __init__(self, trust: Trust, filters: Sequence[RequestFilter]) -> None:
        self._trust = trust
        self._filters = tuple(filters)
        self._sets = frozenset[bytes]().union(*(each.sets for each in filters))

    def prepare(self, head: RequestHead, peer: bytes, scheme: bytes, host: bytes) -> None:
        """Have each filter change a request that may go on. Raises a RequestError for one that may not."""
        take_away(head, self._sets)
        hop = Hop(peer, self.client_of(head, peer), scheme, host)
        for each in self._filters:
            each.prepare(head, hop)

    def client_of(self, head: RequestHead, peer: bytes) -> bytes:
        """Return the address of the client that a request from `peer` comes from."""
        return self._trust.client_of(head.noted.get(b"x-forwarded-for", b""), peer)
