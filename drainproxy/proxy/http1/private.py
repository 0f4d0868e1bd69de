"""The application's connection that belongs to one client: who has logged in over it is that client's user.

Kept for the client's next request, whatever its method and however long that takes; never lent to another,
and its end is the client's, as it would be without a proxy (RFC 4559 section 6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from drainproxy.proxy.upstream.connection import UpstreamConnection
    from drainproxy.proxy.upstream.pool import Pool


class Holder(Protocol):
    """The client whose it is (connection.py)."""

    private: Private | None
    """Its own connection to the application, between two requests."""

    def close_if_idle(self) -> None:
        """End it, unless something has come that was not read."""


class Private:
    """A Borrower between two requests of its client. Written by both connections."""

    __slots__ = ("_client", "_pool", "_upstream")

    def __init__(self, client: Holder, pool: Pool, upstream: UpstreamConnection) -> None:
        self._client = client
        self._pool = pool
        self._upstream = upstream
        pool.set_aside(upstream, self)

    def take(self) -> UpstreamConnection | None:
        """Lend it to its client's next request; None where the application has closed it."""
        self._client.private = None
        upstream, pool = self._upstream, self._pool
        if upstream.lost or upstream.transport.is_closing() or upstream.looks_closed():
            pool.discard(upstream)
            return None
        return pool.take_aside(upstream)

    def end(self) -> None:
        """Close it: its client has gone."""
        self._client.private = None
        self._pool.discard(self._upstream)

    def upstream_data(self, data: bytes) -> None:
        """See Borrower. Nobody has asked."""
        self.upstream_lost(reset=True)

    def upstream_eof(self) -> None:
        """See Borrower. It ends with that."""

    def upstream_lost(self, *, reset: bool) -> None:
        """See Borrower. The client logs in anew on a new connection, as it would have to without us."""
        self.end()
        self._client.close_if_idle()

    def upstream_writable(self, *, writable: bool) -> None:
        """See Borrower."""
