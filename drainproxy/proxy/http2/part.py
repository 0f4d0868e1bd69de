"""What an HTTP/2 connection is made of knows whose it is, and does not hold on to it.

A part is its connection's own: a circle of the two would be freed by nobody but the collector, and would be
in no account until then.
"""

from __future__ import annotations

from typing import Generic, TypeVar
from weakref import ref

Owner = TypeVar("Owner")


class Part(Generic[Owner]):
    """Base of each. `Owner`: what it asks of its connection."""

    __slots__ = ("_owner",)

    def __init__(self, connection: Owner) -> None:
        self._owner: ref[Owner] = ref(connection)

    @property
    def _connection(self) -> Owner:
        """Whose it is: there, while it is asked anything."""
        connection = self._owner()
        assert connection is not None
        return connection
