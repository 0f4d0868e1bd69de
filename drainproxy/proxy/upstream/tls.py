"""TLS to the application: whom it must be, and the handshake before a connection counts as made.

Called by pool.py where the application is https://; a pool without it never comes here.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from typing import Protocol, cast

from drainproxy import certificates
from drainproxy.addresses import UpstreamAddress
from drainproxy.certificates import Certificates, Rotation
from drainproxy.proxy.transport_settings import TransportSettings
from drainproxy.proxy.upstream.connection import UpstreamConnection
from drainproxy.proxy.wire.tls import Tls

Http2Contexts = Callable[[ssl.SSLContext], ssl.SSLContext]
"""The newest context -> one of the same files that asks for HTTP/2."""


class Secured(Protocol):
    """The connections of one application (pool.py)."""

    address: UpstreamAddress
    tls: "UpstreamTls | None"


class UpstreamTls:
    """How one application is spoken to."""

    def __init__(
        self, certificates: Certificates, server_name: str, http2: Http2Contexts | None = None
    ) -> None:
        self._certificates = certificates
        self._http2 = http2
        self.server_name = server_name
        """Whose certificate it must have."""

    @property
    def context(self) -> ssl.SSLContext:
        """The newest."""
        return self._certificates.context

    async def connect(self, connection: UpstreamConnection) -> None:
        """Connect, and shake hands. Raises ssl.SSLError, and what connecting raises.

        A connection that has a borrower from the start speaks HTTP/2.
        """
        loop = asyncio.get_running_loop()
        borrower, connection.borrower = connection.borrower, None
        shaken: asyncio.Future[Exception | None] = loop.create_future()

        def ended(failure: Exception | None) -> None:
            # Here and not behind the await: the application's first words may be in the same read.
            connection.borrower = borrower if failure is None else None
            if not shaken.done():
                shaken.set_result(failure)

        context = self.context
        if borrower is not None and self._http2 is not None:
            context = self._http2(context)
        buffers = connection.buffers
        tls = Tls(
            connection.as_protocol(),
            context,
            ended,
            server_name=self.server_name,
            run_queue=buffers.run_queue,
            account=buffers,
        )
        try:
            transport = await connection.dial(lambda: cast("asyncio.Protocol", tls))
        except BaseException:
            # As with the pool's books: uvloop may never say that it is lost.
            tls.leave_account()
            raise
        try:
            if (failure := await shaken) is not None:
                raise failure
        except BaseException:
            connection.borrower = None
            transport.abort()
            raise


def secure(pools: Iterable[Secured], edge: TransportSettings, rotation: Rotation) -> None:
    """Give the pools of https:// applications what they need. Raises CertificateError."""
    secured = [pool for pool in pools if pool.address.tls]
    if secured:
        make = partial(certificates.for_upstream, verify=edge.upstream_verify)
        made = rotation.add("upstream", edge.for_upstream, make)
        # Made of the same files again whenever they have become a new context.
        http2 = lru_cache(maxsize=1)(lambda _newest: make(edge.for_upstream, http2=True))
        for pool in secured:
            pool.tls = UpstreamTls(made, edge.upstream_server_name or pool.address.host, http2)
