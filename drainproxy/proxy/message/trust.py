"""Whose word counts about a client, and who the client is by it? Pure."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_HOPS: Final = 32
"""Of X-Forwarded-For that are looked at: no chain of proxies that are all trusted is so long."""
MAX_ENTRY_BYTES: Final = 128
"""Of one of them: no address is so long, and what was looked at is remembered."""


class Trust:
    """Which addresses are proxies whose word counts."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(map(ipaddress.ip_network, networks))
        self.holds: Callable[[bytes], bool] = lru_cache(maxsize=1024)(self._holds)
        """Tell whether an address is one of them."""

    def client_of(self, chain: bytes, peer: bytes) -> bytes:
        """Return the client's address: of X-Forwarded-For, `chain`, and the `peer` behind it the first one
        from the right that is no trusted proxy's."""
        client = peer
        for _ in range(MAX_HOPS):
            chain, _, last = chain.rstrip(b" \t,").rpartition(b",")
            last = last.strip(b' \t"')
            if len(last) > MAX_ENTRY_BYTES or not self.holds(client):
                break
            if (address := _address(last)) is None:
                break
            client = address
        return client

    def _holds(self, address: bytes) -> bool:
        try:
            parsed = ipaddress.ip_address(address.decode("ascii", "replace"))
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


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
