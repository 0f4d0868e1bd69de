"""How much is heard: arrivals on the listener, and readiness probes of the kubelet.

An arrival is the first request of a connection, health checks left out. The rate before a drain tells
whether silence during it would be evidence (propagation.py).
"""

import math

WINDOW_S = 60
"""Seconds of memory."""

LEAST_S = 10
"""A process that has served for less has not been heard long enough to be called busy. Above it, `quiet` 2 s
asks for 25 arrivals or more (propagation.MIN_SOUND): one arrival a second, silent for 2 s in 14 % of all
cases, looks like that once in 20,000."""


class ArrivalRate:
    """A ring of one counter a second. Written by the data plane; `since` by the controller."""

    def __init__(self, health_check_agents: tuple[str, ...]) -> None:
        self._agents = tuple(agent.encode("ascii", "replace") for agent in health_check_agents)
        self._seconds = [-1] * WINDOW_S
        self._counts = [0] * WINDOW_S
        self.since = math.inf
        """Loop time from which on there could be arrivals: when the application first answered."""

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

    def young(self, now: float) -> bool:
        """Tell whether the process has not been heard long enough, at loop time `now`, to be called busy."""
        return now - self.since < LEAST_S

    def between(self, first: int, last: int) -> int:
        """Return the arrivals from second `first` to before `last` of loop time, within the last WINDOW_S."""
        rows = zip(self._seconds, self._counts, strict=True)
        return sum(count for second, count in rows if first <= second < last)

    def arrivals_per_s(self, before: float) -> float:
        """Return the rate of arrivals until loop time `before`; 0 for a process younger than LEAST_S.

        It is the mean of the last minute, or of the process' age, and of its newer half if that is less:
        callers that open their pools when a pod appears, and stay, are heard once and not again.
        """
        window_s = min(WINDOW_S, int(before - self.since)) if before > self.since else 0
        if window_s < LEAST_S:
            return 0.0
        return min(self._mean(before, window_s), self._mean(before, window_s / 2))

    def _mean(self, before: float, window_s: float) -> float:
        last = int(before)
        heard = (
            count
            for second, count in zip(self._seconds, self._counts, strict=True)
            if last - window_s < second <= last
        )
        return sum(heard) / window_s


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
