"""What the data plane may read and tell of the lifecycle.

The controller is behind it. A data plane in a process of its own would have something else there that
passes on what is told, and keeps the picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from drainproxy.lifecycle.inflight import Work
from drainproxy.lifecycle.snapshot import Snapshot


class Heard(Protocol):
    """Where arrivals are counted before a drain (arrival_rate.py)."""

    def is_health_check(self, user_agent: bytes) -> bool:
        """Tell by its User-Agent whether a request is a health checker's."""

    def arrived(self, now: float) -> None:
        """Count one arrival at loop time `now`."""


class LongLived(Protocol):
    """Where it is known who leaves when (reconnect_spread.py)."""

    def joined(self, work: Work) -> None:
        """Long-lived work has begun."""


class Lifecycle(Protocol):
    """Loop times are in seconds."""

    @property
    def published(self) -> Snapshot:
        """What is true now: replaced whole, before anybody is told."""

    @property
    def ready(self) -> bool:
        """What /readyz answers."""

    @property
    def upstream_up(self) -> bool:
        """The application accepts connections."""

    @property
    def deadline(self) -> float:
        """By when a drain must have ended; `math.inf` while none runs."""

    @property
    def arrival_rate(self) -> Heard:
        """What is heard of callers."""

    @property
    def reconnect_spread(self) -> LongLived:
        """Who goes on elsewhere, and when."""

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change of phase or policy."""

    async def until(self, reached: Callable[[], bool]) -> None:
        """Return once `reached()` is true; it is asked after every change."""

    def upstream_answers(self) -> None:
        """Tell that the application accepts connections."""

    def warms(self, *, on: bool) -> None:
        """Tell that the application is there and is warmed up first, or not any longer."""

    def upstream_refuses(self) -> None:
        """Tell that it has refused connections for long enough to say so."""

    def request_came(self, now: float) -> None:
        """Tell that a request came while a drain runs, and no health check."""

    def late_arrival(self, now: float) -> None:
        """Tell that one came on a connection accepted after the drain began."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """Where another pod of the same Service listens."""

    host: str
    port: int
    near: bool
    """It is in this pod's zone."""


class Siblings(Protocol):
    """Which other pods serve what this one serves? Whoever knows the cluster answers, when it is asked."""

    async def read(self, port: int) -> list[Sibling] | None:
        """Return every ready pod at the Service port that leads to our `port`; None: it cannot be told."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """What only pods of this workload share, and those who may read about them; empty: nothing is."""
