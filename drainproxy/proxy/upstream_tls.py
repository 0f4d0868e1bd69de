"""TLS to the application: whom it must be, and the handshake before a connection counts as made.

Called by upstream.py where the application is https://; a pool without it never comes here.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from drainproxy import certificates
from drainproxy.proxy.tls import Tls

if TYPE_CHECKING:
    import ssl

    from drainproxy.addresses import UpstreamAddress
    from drainproxy.certificates import Certificates, Rotation
    from drainproxy.proxy.edge import EdgeSettings
    from drainproxy.proxy.upstream import Pool, UpstreamConnection


class UpstreamTls:
    """How one application is spoken to."""

    def __init__(self, certificates: Certificates, server_name: str) -> None:
        self._certificates = certificates
        self.server_name = server_name
        """Whose certificate it must have."""

    @property
    def context(self) -> ssl.SSLContext:
        """The newest."""
        return self._certificates.context

    async def connect(self, connection: UpstreamConnection, address: UpstreamAddress) -> None:
        """Connect, and shake hands. Raises ssl.SSLError, and what connecting raises."""
        loop = asyncio.get_running_loop()
        borrower, connection.borrower = connection.borrower, None
        shaken: asyncio.Future[Exception | None] = loop.create_future()

        def ended(failure: Exception | None) -> None:
            # Here and not behind the await: the application's first words may be in the same read.
            connection.borrower = borrower if failure is None else None
            if not shaken.done():
                shaken.set_result(failure)

        tls = Tls(connection, self.context, ended, server_name=self.server_name)
        transport, _ = await loop.create_connection(lambda: tls, address.host, address.port)
        try:
            if (failure := await shaken) is not None:
                raise failure
        except BaseException:
            connection.borrower = None
            transport.abort()
            raise


def secure(pools: list[Pool], edge: EdgeSettings, rotation: Rotation) -> None:
    """Give the pools of https:// applications what they need. Raises CertificateError."""
    secured = [pool for pool in pools if pool.address.tls]
    if secured:
        make = partial(certificates.for_upstream, verify=edge.upstream_verify)
        made = rotation.add("upstream", edge.for_upstream, make)
        for pool in secured:
            pool.tls = UpstreamTls(made, edge.upstream_server_name or pool.address.host)
