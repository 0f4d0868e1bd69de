"""What a connection passes before it may speak HTTP: on this listener, TLS.

Nothing of the data plane knows of it but the factory in server.py; a listener without any has none. A caller
that has begun is waited for like one that has begun a request: its request comes next.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from drainproxy import certificates
from drainproxy.proxy.partial import PartialHead
from drainproxy.proxy.tls import Tls

if TYPE_CHECKING:
    import asyncio

    from drainproxy.certificates import Certificates, Rotation
    from drainproxy.proxy.connection import ClientConnection
    from drainproxy.proxy.edge import EdgeSettings
    from drainproxy.proxy.settings import ProxySettings


class Arrival(PartialHead):
    """A client on its way in: a Work, so that a drain waits for it (lifecycle/inflight.py)."""

    __slots__ = ()

    def cut(self, reason: str) -> None:
        """End at the drain's deadline (Work): nothing can be said yet."""
        self._client.abort()

    def describe(self) -> dict[str, str]:
        """Say what is known of it (Work)."""
        return {"method": "", "path": "(handshake)"}


def build(edge: EdgeSettings, proxy: ProxySettings, rotation: Rotation) -> Entrance | None:
    """Return the entrance of https:// listeners, if there are any. Raises CertificateError."""
    if not any(address.tls for address in proxy.listen):
        return None
    make = partial(certificates.for_clients, client=edge.tls_client, http2=proxy.upstream_http2 == "on")
    return Entrance(rotation.add("clients", edge.for_clients, make))


class Entrance:
    """Of one listener."""

    def __init__(self, tls: Certificates) -> None:
        self._tls = tls

    def lead(self, client: ClientConnection) -> asyncio.Protocol:
        """Return the protocol that a new connection begins with."""
        client.scheme = b"https"
        began, ended = partial(self._began, client), partial(self._shaken, client)
        return Tls(client, self._tls.context, ended, began=began, server_side=True)

    def _began(self, client: ClientConnection) -> None:
        client.timer.set(client.loop.time() + client.server.settings.head_timeout)
        client.arrival = Arrival(client)
        client.server.inflight.add(client.arrival)

    def _shaken(self, client: ClientConnection, failure: Exception | None) -> None:
        if client.arrival is None:
            # Whoever connects and says nothing has not failed at anything.
            return
        server = client.server
        server.inflight.discard(client.arrival)
        client.arrival = None
        server.metrics.tls_handshakes.inc("ok" if failure is None else "failed")
        if failure is not None:
            server.books.turned_away(client, "tls-handshake", certificates.reason(failure))
            return
        client.timer.set(client.loop.time() + server.settings.keepalive_idle)
        client.arrived_at = client.loop.time()
        # What comes next is a request: a drain does not end in between.
        server.controller.request_came(client.arrived_at)
