"""The edge: how callers and the application are spoken to below HTTP, and who is believed about a client.

The string under each field is the manual (docs/configuration.md). `problems` says what does not fit
together; config.py asks it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from drainproxy import certificates
from drainproxy.certificates import ClientCertificate, Files
from drainproxy.errors import CertificateError
from drainproxy.kinds import File, Network, Switch, Text
from drainproxy.proxy.settings import ProxySettings

Mode = Literal["keep", "append", "replace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportSettings:
    """None means "not set"."""

    tls_certificate: File | None = None
    """PEM file with the certificate for callers of https:// listeners, and its chain. It is read again at
    SIGHUP and when it changes; one that does not load or has expired never replaces one in use."""

    tls_key: File | None = None
    """PEM file with the certificate's private key, without a password."""

    tls_client: ClientCertificate = "off"
    """Whether callers are asked for a certificate of their own: not at all, optional (a wrong one is refused,
    none is not), or required: then no other listener than of a tcp:// upstream may be in clear text."""

    tls_client_ca: File | None = None
    """PEM file with the authorities that callers' certificates must come from."""

    upstream_verify: Switch = True
    """Whether the certificate of an https:// application must be believed. If not, whoever is there can read
    and change everything, which inside the application's own pod is the application."""

    upstream_ca: File | None = None
    """PEM file with the authorities that the application's certificate must come from.
    Default: the system's."""

    upstream_server_name: Text | None = None
    """The name that the application's certificate must have. Default: the host in `upstream`."""

    upstream_certificate: File | None = None
    """PEM file with the certificate that the application is shown, if it asks."""

    upstream_key: File | None = None
    """PEM file with that certificate's private key, without a password."""

    forwarding: Mode = "keep"
    """What the application is told of a client. keep: what came; X-Forwarded-For is added where no usual
    field names a client's address, X-Forwarded-Proto where TLS ends here. append: this hop is added to
    X-Forwarded-For and Forwarded, and X-Real-IP is the first address from the right that is not in
    `trusted_proxies`; only they are believed about scheme, host and X-Request-Id. replace: what came is
    dropped, in fields of other proxies too, and all of these are set from the connection."""

    trusted_proxies: tuple[Network, ...] = ()
    """Networks of the proxies in front of this pod, such as 10.0.0.0/8,2001:db8::/32."""

    proxy_protocol: Switch = False
    """Every connection comes from one of `trusted_proxies` and begins with a PROXY header, version 1 or 2,
    before TLS if there is any; others are closed. The client is whom the header names. A tcp:// upstream
    gets the header as it comes."""

    trust_everyone: Switch = False
    """Allow networks of everybody, 0.0.0.0/0 or ::/0, in `trusted_proxies`: then any client can claim to be
    any other."""

    via: Switch = False
    """Send Via (RFC 9110 section 7.6.3) under a pseudonym that is random for each process, and answer 508 to
    a request that has been here before. Default: off, as in nginx, Envoy and HAProxy; some applications do
    not compress their answers when they see it."""

    request_start: Switch = False
    """Send X-Request-Start: `t=` and the seconds since 1970 at which the request's head was here, with
    microseconds. What the application adds to it is time that the request has waited, in `max_queued` too. A
    field of that name that comes is replaced."""

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


def problems(edge: TransportSettings, proxy: ProxySettings) -> Iterator[tuple[str, str]]:
    """Yield what does not fit together, as a setting and the rest of a sentence about its value."""
    yield from _trust(edge, proxy)
    if proxy.upstream_proxy_protocol != "off" and not any(address.tcp for address in proxy.upstream):
        yield "upstream_proxy_protocol", "is used by no upstream; write tcp:// in `upstream`"
    encrypted = any(address.tls for address in proxy.listen)
    yield from _clients(edge) if encrypted else _unused(edge)
    for listen, upstream in zip(proxy.listen, proxy.upstream, strict=False):
        if listen.tls and upstream.tcp:
            yield "upstream", f"{upstream} is passed on unread; write its `listen` without https://"
        # What is passed on unread, the application can ask for a certificate itself.
        elif edge.tls_client == "required" and not listen.tls and not upstream.tcp and encrypted:
            yield "tls_client", f"is not asked of callers of {listen}; write https:// before it in `listen`"
    if any(address.tls for address in proxy.upstream):
        yield from _upstream(edge)
    else:
        for name in ("upstream_ca", "upstream_server_name", "upstream_certificate", "upstream_key"):
            if getattr(edge, name) is not None:
                yield name, "is used by no upstream; write https:// in `upstream`"


def _trust(edge: TransportSettings, proxy: ProxySettings) -> Iterator[tuple[str, str]]:
    if not edge.trust_everyone and any(network.endswith("/0") for network in edge.trusted_proxies):
        yield "trusted_proxies", "trusts everybody; write networks, or trust_everyone if that is meant"
    if edge.trusted_proxies and edge.forwarding != "append" and not edge.proxy_protocol:
        yield "trusted_proxies", "is used by nothing; write forwarding: append, or proxy_protocol"
    if edge.proxy_protocol and not edge.trusted_proxies:
        yield "proxy_protocol", "believes nobody; write trusted_proxies"
    if edge.proxy_protocol and proxy.upstream_proxy_protocol != "off":
        yield ("upstream_proxy_protocol", "would be a second header behind proxy_protocol's; leave one out")
    if edge.forwarding != "keep" and proxy.upstream_http2 != "off":
        yield "forwarding", "cannot be done to HTTP/2, which passes as it is; write upstream_http2: off"


def _unused(edge: TransportSettings) -> Iterator[tuple[str, str]]:
    given = {
        "tls_client": edge.tls_client != "off",
        "tls_certificate": edge.tls_certificate is not None,
        "tls_key": edge.tls_key is not None,
        "tls_client_ca": edge.tls_client_ca is not None,
    }
    if name := next((name for name, there in given.items() if there), None):
        yield name, "is used by no listener; write https:// before an address of `listen`"


def _clients(edge: TransportSettings) -> Iterator[tuple[str, str]]:
    if edge.tls_certificate is None or edge.tls_key is None:
        yield "listen", "needs tls_certificate and tls_key; write both"
    elif edge.tls_client != "off" and edge.tls_client_ca is None:
        yield "tls_client", "needs tls_client_ca; write the authorities' file"
    else:
        try:
            certificates.for_clients(edge.for_clients, edge.tls_client)
        except CertificateError as error:
            yield "tls_certificate", f"cannot be used: {error}"


def _upstream(edge: TransportSettings) -> Iterator[tuple[str, str]]:
    if (edge.upstream_certificate is None) != (edge.upstream_key is None):
        given = "upstream_certificate" if edge.upstream_key is None else "upstream_key"
        yield given, "is of no use alone; write both upstream_certificate and upstream_key"
        return
    try:
        certificates.for_upstream(edge.for_upstream, verify=edge.upstream_verify)
    except CertificateError as error:
        yield "upstream_ca" if edge.upstream_ca else "upstream_certificate", f"cannot be used: {error}"
