"""How much of what costs more to answer than to send may one client send? Counted per connection.

Every number is a mean over WINDOW_S, so that a burst passes and a flood does not.
"""

from drainproxy.proxy.http2.frames import Code, FrameFault
from drainproxy.proxy.settings import ProxySettings

WINDOW_S = 10.0
MAX_SETTINGS_A_SECOND = 10
"""A peer sends SETTINGS once, and seldom again."""
MAX_BLOCK_FRAMES = 64
"""Frames of one header block: each may be empty, so bytes alone are no bound (CVE-2024-27316)."""


class Guard:
    """One client connection's counters. `kind` is the label of `h2_abuse_total`."""

    __slots__ = ("_counts", "_limits", "_since", "max_block_bytes")

    def __init__(self, settings: ProxySettings, now: float) -> None:
        pings = settings.h2_max_pings
        self._limits = {
            "reset": settings.h2_max_resets * WINDOW_S,
            "ping": pings * WINDOW_S,
            "empty": pings * WINDOW_S,
            "settings": MAX_SETTINGS_A_SECOND * WINDOW_S,
        }
        self._counts = dict.fromkeys(self._limits, 0)
        self._since = now
        self.max_block_bytes = settings.max_head_bytes

    def count(self, kind: str, now: float) -> None:
        """Count one. Raises Abuse when there were too many."""
        if now - self._since > WINDOW_S:
            self._counts = dict.fromkeys(self._limits, 0)
            self._since = now
        self._counts[kind] += 1
        if self._counts[kind] > self._limits[kind]:
            raise Abuse(kind)

    def block(self, size: int, frames: int) -> None:
        """Bound a header block that is not complete. Raises Abuse."""
        if size > self.max_block_bytes or frames > MAX_BLOCK_FRAMES:
            raise Abuse("continuation")


class Abuse(FrameFault):
    """More than a client needs."""

    def __init__(self, kind: str) -> None:
        super().__init__(Code.ENHANCE_YOUR_CALM, f"too much: {kind}")
        self.kind = kind
