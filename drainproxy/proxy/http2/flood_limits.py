"""How much of what costs more to answer than to send may one client send? Counted per connection.

Every number is a mean over WINDOW_S, so that a burst passes and a flood does not. What a client gets out of
its streams is weighed against it: whoever has many answers may have many resets beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drainproxy.proxy.http2.faults import Abuse, Code

if TYPE_CHECKING:
    from drainproxy.metrics import Excess
    from drainproxy.proxy.http2.stream import Stream
    from drainproxy.proxy.settings import ProxySettings

WINDOW_S: Final = 10.0
MAX_SETTINGS_A_SECOND: Final = 10
"""A peer sends SETTINGS once, and seldom again."""
RESETS_AN_ANSWER: Final = 10
"""So many resets go with each stream that was answered. Hedging sends a call five times and takes one answer;
a flood has none (CVE-2023-44487)."""
PROMPT_S: Final = 1.0
"""A stream that was waited for so long was meant: open streams are bounded, and so are such resets."""
PROVOKED: Final = frozenset(
    {Code.PROTOCOL_ERROR, Code.FLOW_CONTROL_ERROR, Code.STREAM_CLOSED, Code.FRAME_SIZE_ERROR}
)
"""What an application resets a stream with because of what the client has sent on it: a client can have
streams reset like this as well as reset them (CVE-2025-8671)."""
MAX_BLOCK_FRAMES: Final = 64
"""Frames of one header block: each may be empty, so bytes alone are no bound (CVE-2024-27316)."""


class FloodLimits:
    """One client connection's counters. `kind` is the label of `h2_abuse_total`."""

    __slots__ = ("_before", "_counts", "_limits", "_since", "answered", "max_block_bytes")

    def __init__(self, settings: ProxySettings, now: float) -> None:
        pings = settings.h2_max_pings
        self._limits: dict[Excess, float] = {
            "reset": settings.h2_max_resets * WINDOW_S,
            "streams": settings.h2_max_resets * WINDOW_S,
            "ping": pings * WINDOW_S,
            "empty": pings * WINDOW_S,
            "settings": MAX_SETTINGS_A_SECOND * WINDOW_S,
        }
        self._counts = dict.fromkeys(self._limits, 0)
        self._since = now
        self.answered = 0
        """Streams that have ended with an answer, or a part of one, in this window."""
        self._before = 0.0
        """The same of the window before."""
        self.max_block_bytes = settings.max_head_bytes

    def count(self, kind: Excess, now: float) -> None:
        """Count one. Raises Abuse when there were too many."""
        past = now - self._since
        if past > WINDOW_S:
            self._counts = dict.fromkeys(self._limits, 0)
            self._since = now
            self._before, self.answered = self.answered * WINDOW_S / past, 0
        self._counts[kind] += 1
        count, limit = self._counts[kind], self._limits[kind]
        if count > limit and count > limit + _AN_ANSWER.get(kind, 0) * (self._before + self.answered):
            raise Abuse(kind)

    def reset(self, stream: Stream | None, now: float) -> None:
        """Count a client's RST_STREAM, unless the stream was answered or waited for. Raises Abuse."""
        if stream is None or not (stream.answered or now - stream.started >= PROMPT_S):
            self.count("reset", now)

    def block(self, size: int, frames: int) -> None:
        """Bound a header block that is not complete. Raises Abuse."""
        if size > self.max_block_bytes or frames > MAX_BLOCK_FRAMES:
            raise Abuse("continuation")


_AN_ANSWER: Final[dict[Excess, int]] = {"reset": RESETS_AN_ANSWER, "ping": 1, "empty": 1}
