"""What is the application told of a client, where it is told more than what is missing? Pure.

The modes `append` and `replace` of the setting `forwarding`, `via`, and the trace that it is part of. Made
once for a process and called by connection.py before a request goes on; without any of these there is no
Forwarder, and headers.py adds what is missing (`keep`).
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from drainproxy.errors import LoopDetected
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
    from collections.abc import Callable, Iterable

    from drainproxy.proxy.accounting.tracing import Tracing
    from drainproxy.proxy.message.parser import Line, RequestHead

MAX_HOPS = 32
"""Of X-Forwarded-For that are looked at: no chain of proxies that are all trusted is so long."""
MAX_ENTRY_BYTES = 128
"""Of one of them: no address is so long, and what was looked at is remembered."""

Mode = Literal["keep", "append", "replace"]

_OTHERS = (OF_CLIENTS | CLIENT_ADDRESS | CLIENT_SCHEME) - X_FORWARDED
"""Nobody but a trusted proxy may say these, besides all that begin with X_FORWARDED_PREFIX."""
_SET = OF_CLIENTS | {b"via"}
_ALWAYS_ANEW = words(b"x-forwarded-for x-real-ip forwarded")


class Trust:
    """Which addresses are proxies whose word counts."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(map(ipaddress.ip_network, networks))
        self.holds: Callable[[bytes], bool] = lru_cache(maxsize=1024)(self._holds)
        """Tell whether an address is one of them."""

    def _holds(self, address: bytes) -> bool:
        try:
            parsed = ipaddress.ip_address(address.decode("ascii", "replace"))
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


class Forwarder:
    """How this process speaks of clients. `via`: its pseudonym (RFC 9110 section 7.6.3)."""

    def __init__(self, mode: Mode, trust: Trust, via: bytes | None, new_id: Callable[[], bytes]) -> None:
        self._mode = mode
        self._trust = trust
        self._via = via
        self._new_id = new_id
        self.tracing: Tracing | None = None

    def prepare(self, head: RequestHead, peer: bytes, scheme: bytes, host: bytes) -> None:
        """Change the fields of a request that may go on. Raises LoopDetected for one that was here before."""
        noted = head.noted
        if self._via is not None and self._via in noted.get(b"via", b""):
            raise LoopDetected
        named = head.named & _SET
        if named:
            # What Connection takes away it takes away before ours are set (RFC 9110 section 7.6.1).
            head.named -= named
            head.fields = [line for line in head.fields if name_of(line) not in named]
            for name in named:
                noted.pop(name, None)
        if self._mode != "keep":
            head.fields = self._introduce(head, peer, scheme, host)
        if self._via is not None:
            head.fields = [*head.fields, b"Via: 1.%d %b\r\n" % (head.http_1_1, self._via)]
        if self.tracing is not None:
            self.tracing.begin(head, self.client_of(head, peer), scheme)

    def client_of(self, head: RequestHead, peer: bytes) -> bytes:
        """Return the client's address: the first one from the right that is no trusted proxy's."""
        client = peer
        if self._mode == "append":
            rest = head.noted.get(b"x-forwarded-for", b"")
            for _ in range(MAX_HOPS):
                rest, _, last = rest.rstrip(b" \t,").rpartition(b",")
                last = last.strip(b' \t"')
                if len(last) > MAX_ENTRY_BYTES or not self._trust.holds(client):
                    break
                if (address := _address(last)) is None:
                    break
                client = address
        return client

    def _introduce(self, head: RequestHead, peer: bytes, scheme: bytes, host: bytes) -> list[Line]:
        """Return the fields with what is said of the client; `noted` says the same."""
        noted = head.noted
        append = self._mode == "append"
        believed = append and self._trust.holds(peer)
        hop = b"for=%b;proto=%b" % (_node(peer), scheme)
        if host:
            hop += b';host="%b"' % host
        said = {
            b"X-Forwarded-For": _list(noted.get(b"x-forwarded-for"), peer) if append else peer,
            b"X-Real-IP": self.client_of(head, peer),
            b"Forwarded": _list(noted.get(b"forwarded"), hop) if append else hop,
            b"X-Forwarded-Proto": scheme,
            b"X-Forwarded-Host": host,
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
        return kept + [b"%b: %b\r\n" % (name, value) for name, value in said.items() if value]


def _list(received: bytes | None, own: bytes) -> bytes:
    return b", ".join(part for part in ((received or b"").strip(b" \t,"), own) if part)


def _node(address: bytes) -> bytes:
    """Return an address as RFC 7239 section 6 writes it."""
    return b'"[%b]"' % address if b":" in address else address or b"unknown"


@lru_cache(maxsize=1024)
def _address(entry: bytes) -> bytes | None:
    """Return the address in an entry of X-Forwarded-For, which may have a port."""
    text = entry.decode("ascii", "replace")
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed).encode()
