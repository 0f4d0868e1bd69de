"""How much is heard: arrivals on the listener, and readiness probes of the kubelet.

An arrival is the first request of a connection, health checks left out. The rate before a drain tells
whether silence during it would be evidence (propagation.py).
"""

from __future__ import annotations

WINDOW_S = 60
"""Seconds of memory. A process younger than this counts as quieter than it was: the careful side."""


class Sound:
    """A ring of one counter a second. Written by the data plane."""

    def __init__(self, health_check_agents: tuple[str, ...]) -> None:
        self._agents = tuple(agent.encode("ascii", "replace") for agent in health_check_agents)
        self._seconds = [-1] * WINDOW_S
        self._counts = [0] * WINDOW_S

    def is_health_check(self, user_agent: bytes) -> bool:
        """Tell by its User-Agent whether a request is a health checker's."""
        return user_agent.startswith(self._agents)

    def arrived(self, now: float) -> None:
        """Count one arrival at loop time `now`."""
        second = int(now)
        slot = second % WINDOW_S
        if self._seconds[slot] != second:
            self._seconds[slot] = second
            self._counts[slot] = 0
        self._counts[slot] += 1

    def arrivals_per_s(self, before: float) -> float:
        """Return the mean rate in the window that ends at loop time `before`."""
        last = int(before)
        heard = sum(
            count
            for second, count in zip(self._seconds, self._counts, strict=True)
            if last - WINDOW_S < second <= last
        )
        return heard / WINDOW_S


class Probes:
    """When the kubelet asks for readiness. Loop times, seconds. Written by the admin room."""

    def __init__(self) -> None:
        self.last: float | None = None
        self.interval_s: float | None = None
        """Between the last two; None until there were two."""

    def came(self, now: float) -> None:
        """One came at loop time `now`."""
        if self.last is not None:
            self.interval_s = now - self.last
        self.last = now
