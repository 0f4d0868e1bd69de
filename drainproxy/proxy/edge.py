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

    upstream_verify: bool = True
    """Whether the certificate of an https:// application must be believed. If not, whoever is there can read
    and change everything, which inside the application's own pod is the application."""

    upstream_ca: str | None = None
    """PEM file with the authorities that the application's certificate must come from.
    Default: the system's."""

    upstream_server_name: str | None = None
    """The name that the application's certificate must have. Default: the host in `upstream`."""

    upstream_certificate: str | None = None
    """PEM file with the certificate that the application is shown, if it asks."""

    upstream_key: str | None = None
    """PEM file with that certificate's private key, without a password."""

    @property
    def for_clients(self) -> Files:
        """The files of https:// listeners."""
        authorities = self.tls_client_ca if self.tls_client != "off" else None
        return Files(certificate=self.tls_certificate, key=self.tls_key, authorities=authorities)

    @property
    def for_upstream(self) -> Files:
        """The files of connections to https:// applications."""
        authorities = self.upstream_ca if self.upstream_verify else None
        return Files(certificate=self.upstream_certificate, key=self.upstream_key, authorities=authorities)


def problems(edge: EdgeSettings, proxy: ProxySettings) -> Iterator[tuple[str, str]]:
    """Yield what does not fit together, as a setting and the rest of a sentence about its value."""
    if any(address.tls for address in proxy.listen):
        yield from _clients(edge)
    elif edge.tls_certificate is not None:
        yield "tls_certificate", "is used by no listener; write https:// before an address of `listen`"
    if any(address.tls for address in proxy.upstream):
        yield from _upstream(edge)
    else:
        for name in ("upstream_ca", "upstream_server_name", "upstream_certificate", "upstream_key"):
            if getattr(edge, name) is not None:
                yield name, "is used by no upstream; write https:// in `upstream`"


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


def _upstream(edge: EdgeSettings) -> Iterator[tuple[str, str]]:
    if (edge.upstream_certificate is None) != (edge.upstream_key is None):
        given = "upstream_certificate" if edge.upstream_key is None else "upstream_key"
        yield given, "is of no use alone; write both upstream_certificate and upstream_key"
        return
    try:
        certificates.for_upstream(edge.for_upstream, verify=edge.upstream_verify)
    except CertificateError as error:
        yield "upstream_ca" if edge.upstream_ca else "upstream_certificate", f"cannot be used: {error}"
