"""The edge: how callers and the application are spoken to below HTTP, and who is believed about a client.

The string under each field is the manual (docs/configuration.md). `problems` says what does not fit
together; config.py asks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drainproxy import certificates
from drainproxy.certificates import ClientCertificate, Files
from drainproxy.errors import CertificateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drainproxy.proxy.settings import ProxySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """None means "not set"."""

    tls_certificate: str | None = None
    """PEM file with the certificate for callers of https:// listeners, and its chain. It is read again at
    SIGHUP and when it changes; one that does not load or has expired never replaces one in use."""

    tls_key: str | None = None
    """PEM file with the certificate's private key, without a password."""

    tls_client: ClientCertificate = "off"
    """Whether callers are asked for a certificate of their own: not at all, optional (a wrong one is refused,
    none is not), or required."""

    tls_client_ca: str | None = None
    """PEM file with the authorities that callers' certificates must come from."""

    @property
    def for_clients(self) -> Files:
        """The files of https:// listeners."""
        authorities = self.tls_client_ca if self.tls_client != "off" else None
        return Files(certificate=self.tls_certificate, key=self.tls_key, authorities=authorities)


def problems(edge: EdgeSettings, proxy: ProxySettings) -> Iterator[tuple[str, str]]:
    """Yield what does not fit together, as a setting and the rest of a sentence about its value."""
    if any(address.tls for address in proxy.listen):
        yield from _clients(edge)
    elif edge.tls_certificate is not None:
        yield "tls_certificate", "is used by no listener; write https:// before an address of `listen`"


def _clients(edge: EdgeSettings) -> Iterator[tuple[str, str]]:
    if edge.tls_certificate is None or edge.tls_key is None:
        yield "listen", "needs tls_certificate and tls_key; write both"
    elif edge.tls_client != "off" and edge.tls_client_ca is None:
        yield "tls_client", "needs tls_client_ca; write the authorities' file"
    else:
        try:
            certificates.for_clients(edge.for_clients, edge.tls_client)
        except CertificateError as error:
            yield "tls_certificate", f"cannot be used: {error}"
