"""Does the application speak HTTP/2? What it says to a client's preface tells, for one pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

ASK_AGAIN_S: Final = 10.0
"""An application that does not speak HTTP/2 is not asked again for so long."""


class Http2Support:
    """Of one application. Written by the HTTP/2 connections that ask it."""

    def __init__(self, setting: str, loop: asyncio.AbstractEventLoop) -> None:
        """`setting`: `upstream_http2`."""
        self._off = setting == "off"
        self._known = setting == "on"
        """It has spoken it, or is said to: nothing makes it forget."""
        self._asked_not_before = 0.0
        self._loop = loop

    @property
    def worth_asking(self) -> bool:
        """Tell whether it may speak it."""
        return not self._off and self._loop.time() >= self._asked_not_before

    def found(self) -> None:
        """It has sent SETTINGS."""
        self._known = True
        self._asked_not_before = 0.0

    def missed(self) -> None:
        """It has answered in another protocol."""
        if not self._known:
            self._asked_not_before = self._loop.time() + ASK_AGAIN_S
