"""The application's connection that belongs to one client: who has logged in over it is that client's user.

Kept for the client's next request, whatever its method and however long that takes; never lent to another,
and its end is the client's, as it would be without a proxy (RFC 4559 section 6).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drainproxy.proxy.http1.connection import ClientConnection
    from drainproxy.proxy.upstream.connection import UpstreamConnection


class Private:
    """A Borrower between two requests of its client. Written by both connections."""

    __slots__ = ("_client", "_upstream")

    def __init__(self, client: ClientConnection, upstream: UpstreamConnection) -> None:
        self._client = client
        self._upstream = upstream
        client.plane.pool.set_aside(upstream, self)

    def take(self) -> UpstreamConnection | None:
        """Lend it to its client's next request; None where the application has closed it."""
        self._client.private = None
        upstream, pool = self._upstream, self._client.plane.pool
        if upstream.lost or upstream.transport.is_closing() or upstream.looks_closed():
            pool.discard(upstream)
            return None
        return pool.take_aside(upstream)

    def end(self) -> None:
        """Close it: its client has gone."""
        self._client.private = None
        self._client.plane.pool.discard(self._upstream)

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
