"""Who gives way where there are too many? Each address has its share; who has more gives its oldest away.

Pure. Asked by http_server.py for connections and by server.py for waiting hooks. The node's own addresses,
where the kubelet comes from, have places of their own that nobody else can take.
"""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)


class FairShare(Generic[Who]):
    """So many places for everybody. Written by whoever owns it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_address: dict[str, dict[Who, None]] = {}
        """The oldest of each address first."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Who]:
        return (who for own in self._by_address.values() for who in own)

    def enter(self, who: Who, address: str) -> None:
        """Take somebody in."""
        self._by_address.setdefault(address, {})[who] = None
        self._count += 1

    def leave(self, who: Who, address: str) -> None:
        """Let somebody go, who may have gone already."""
        own = self._by_address.get(address, {})
        if who in own:
            del own[who]
            self._count -= 1
            if not own:
                del self._by_address[address]

    def replace(self, who: Who, by: Who, address: str) -> None:
        """Give a place to somebody else of the same address; he is its newest."""
        self.leave(who, address)
        self.enter(by, address)

    def of(self, address: str) -> list[Who]:
        """Return who has come from an address, the oldest first."""
        return list(self._by_address.get(address, ()))

    def crowds(self, newcomer: str) -> Iterator[str]:
        """Yield the addresses of which somebody may have to go since one of address `newcomer` has come, the
        likeliest first; none while there is room."""
        if self._count <= self._most:
            return
        if self._size(newcomer) * len(self._by_address) > self._count:
            # One address that comes by the thousand is found without looking at the others.
            yield newcomer
        yield from sorted(self._by_address, key=self._size, reverse=True)

    def _size(self, address: str) -> int:
        return len(self._by_address[address])
