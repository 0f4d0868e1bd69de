"""Names of fields: those that mean something here, lower-case, and what is known of those that came. Pure."""

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

MAX_REMEMBERED_NAMES: Final = 256
MAX_REMEMBERED_BYTES: Final = 64
"""Of a name: a longer one is not kept for who sent it."""
_UNDERSCORE: Final = 0x5F
"""A number is looked for in a tenth of the time that one byte takes as bytes."""


class FieldName:
    """A name as it was written, and what it means to a head."""

    __slots__ = ("begins", "left_out", "lower", "noted", "underscored")

    def __init__(self, name: bytes, noted: frozenset[bytes], left_out: frozenset[bytes]) -> None:
        self.lower = lower = name.lower()
        self.begins = name + b": "
        """A line."""
        self.noted = lower in noted
        """Its value means something here."""
        self.left_out = lower in left_out
        """It does not go on as it came."""
        self.underscored = _UNDERSCORE in lower


class FieldNames:
    """What names mean to one kind of head. An application and its callers write few, again and again: those
    are looked up as they were written, which costs less than to look at them."""

    __slots__ = ("_left_out", "_noted", "known")

    def __init__(self, noted: frozenset[bytes], left_out: frozenset[bytes]) -> None:
        self._noted = noted
        self._left_out = left_out
        self.known: dict[bytes, FieldName] = {}

    def learn(self, name: bytes) -> FieldName:
        """Return what `name` means, and keep it; they begin anew where somebody sends ever new ones."""
        known = FieldName(name, self._noted, self._left_out)
        if len(name) <= MAX_REMEMBERED_BYTES:
            if len(self.known) >= MAX_REMEMBERED_NAMES:
                self.known.clear()
            self.known[name] = known
        return known


_LEFT_OUT: Final = HOP_BY_HOP | {b"content-length"}
"""Framing is written afresh, never copied."""
OF_REQUESTS: Final = FieldNames(
    HOP_BY_HOP | OF_CLIENTS | CLIENT_ADDRESS | CLIENT_SCHEME
    | words(b"host content-length expect max-forwards user-agent via trailer authorization")
    | words(b"drainproxy-handoff"),
    _LEFT_OUT,
)  # fmt: skip
OF_RESPONSES: Final = FieldNames(
    HOP_BY_HOP | words(b"content-length date trailer www-authenticate persistent-auth"), _LEFT_OUT
)
