"""Names of fields that mean something here, lower-case. Pure."""

from __future__ import annotations

from typing import Final


def words(listed: bytes) -> frozenset[bytes]:
    """Return the words of a list as a set."""
    return frozenset(listed.split())


HOP_BY_HOP: Final = words(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te transfer-encoding"
    b" upgrade http2-settings"
)
"""Not forwarded (RFC 9110 section 7.6.1); what must go on is set afresh."""
X_FORWARDED: Final = words(b"x-forwarded-for x-forwarded-proto x-forwarded-host")
X_FORWARDED_PREFIX: Final = b"x-forwarded-"
OF_CLIENTS: Final = X_FORWARDED | words(b"x-real-ip x-request-id forwarded")
"""What proxies say of a client, and what is set here."""
CLIENT_ADDRESS: Final = words(
    b"x-forwarded-for forwarded x-real-ip x-client-ip x-cluster-client-ip x-original-forwarded-for"
    b" x-envoy-external-address true-client-ip cf-connecting-ip cf-connecting-ipv6 cf-pseudo-ipv4"
    b" fastly-client-ip fly-client-ip x-azure-clientip x-azure-socketip x-appengine-user-ip"
    b" cloudfront-viewer-address do-connecting-ip"
)
"""In which balancers, networks in front of them and other proxies name a client's address."""
CLIENT_SCHEME: Final = words(
    b"x-forwarded-proto x-forwarded-protocol x-forwarded-ssl x-forwarded-scheme x-scheme x-url-scheme"
    b" front-end-https cloudfront-forwarded-proto forwarded"
)
"""In which they say whether it came over TLS."""
