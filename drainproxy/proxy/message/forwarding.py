"""What is the application told of a client, where it is told more than what is missing? Pure.

The filter (filters.py) of the modes `append` and `replace` of the setting `forwarding`; in `keep` there is
none, and headers.py adds what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from drainproxy.proxy.message.field_names import (
    CLIENT_ADDRESS,
    CLIENT_SCHEME,
    OF_CLIENTS,
    X_FORWARDED,
    X_FORWARDED_PREFIX,
    words,
)
from drainproxy.proxy.message.headers import name_of, twin_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from drainproxy.proxy.message.filters import Hop
    from drainproxy.proxy.message.parser import RequestHead
    from drainproxy.proxy.message.trust import Trust
    from drainproxy.proxy.transport_settings import Mode

_OTHERS: Final = (OF_CLIENTS | CLIENT_ADDRESS | CLIENT_SCHEME) - X_FORWARDED
"""Nobody but a trusted proxy may say these, besides all that begin with X_FORWARDED_PREFIX."""
_ALWAYS_ANEW: Final = words(b"x-forwarded-for x-real-ip forwarded")


class Forwarding:
    """See RequestFilter. How this process speaks of clients."""

    sets: ClassVar = OF_CLIENTS

    def __init__(self, mode: Mode, trust: Trust, new_id: Callable[[], bytes]) -> None:
        self._append = mode == "append"
        self._trust = trust
        self._new_id = new_id

    def prepare(self, head: RequestHead, hop: Hop) -> None:
        """Say who the client is; `noted` says the same."""
        noted = head.noted
        peer, append = hop.peer, self._append
        believed = append and self._trust.holds(peer)
        element = b"for=%b;proto=%b" % (_node(peer), hop.scheme)
        if hop.host:
            element += b';host="%b"' % hop.host
        said = {
            b"X-Forwarded-For": _list(noted.get(b"x-forwarded-for"), peer) if append else peer,
            b"X-Real-IP": hop.client,
            b"Forwarded": _list(noted.get(b"forwarded"), element) if append else element,
            b"X-Forwarded-Proto": hop.scheme,
            b"X-Forwarded-Host": hop.host,
        }
        if believed:
            # A trusted proxy knows better how the client came to it.
            said = {name: value for name, value in said.items()
                    if name.lower() in _ALWAYS_ANEW or name.lower() not in noted}  # fmt: skip
        if not believed or b"x-request-id" not in noted:
            said[b"X-Request-Id"] = self._new_id()
        set_anew = {name.lower() for name in said}
        kept = [
            line
            for line in head.fields
            if (name := twin_of(name_of(line))) not in set_anew
            and (believed or not (name in _OTHERS or name.startswith(X_FORWARDED_PREFIX)))
        ]
        for name, value in said.items():
            noted[name.lower()] = value
        head.fields = kept + [b"%b: %b\r\n" % (name, value) for name, value in said.items() if value]


def _list(received: bytes | None, own: bytes) -> bytes:
    return b", ".join(part for part in ((received or b"").strip(b" \t,"), own) if part)


def _node(address: bytes) -> bytes:
    """Return an address as RFC 7239 section 6 writes it."""
    return b'"[%b]"' % address if b":" in address else address or b"unknown"
