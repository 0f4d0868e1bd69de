"""What an HTTP/2 connection is made of knows whose it is, until that has ended.

A part is its connection's own: a circle of the two would be freed by nobody but the collector, and would be
in no account until then. So the connection parts with each of them once it is over. A weak reference would
do by itself what is asked for here, but there is none to a compiled object: decision 0023.
"""

from __future__ import annotations

from typing import Any


class Part:
    """Base of each, which says as `_connection` what it asks of its owner.

    Not generic: Generic is a class of Python's.
    """

    __slots__ = ("_owner",)

    def __init__(self, connection: object) -> None:
        self._owner: Any = connection
        """Whose it is: there, while it is asked anything."""

    @property
    def left(self) -> bool:
        """Its connection is over."""
        return self._owner is None

    def leave(self) -> None:
        """Its connection is over, and asks nothing any more."""
        self._owner = None
