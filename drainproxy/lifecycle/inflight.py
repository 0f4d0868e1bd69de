"""Who is still working? Everything that delays a drain is a Work and holds a hold.

The data plane holds; the controller reads. Nothing polls: `on_empty` is called when the last hold that is
waited for is let go while a drain listens, and only then.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from drainproxy.metrics import Metrics


class Work(Protocol):
    """A request, a stream or a tunnel that was admitted and has not ended."""

    @property
    def kind(self) -> str:
        """`http`, `stream` or `tunnel`: the label of `requests_in_flight`."""

    started: float
    """Loop time, seconds."""

    @property
    def deadline(self) -> float:
        """Loop time at which it ends by itself; `math.inf` for none."""

    def drain_by(self, deadline: float) -> None:
        """End by loop time `deadline`, or earlier if its own time is up earlier; `math.inf` takes it back."""

    def leave(self) -> None:
        """Asked to end early, if it knows how: requests just finish. Asked again while it is still here."""

    def cut(self, reason: str) -> None:
        """End now, so that the other side sees that it was cut. `reason` goes to the log."""

    def describe(self) -> dict[str, str]:
        """Say what it is, for `/status`: never a query string, never a body."""


class InFlight:
    """The books. Who adds a Work discards it on every way that it can end."""

    def __init__(self) -> None:
        self.works: dict[Work, None] = {}
        """Insertion-ordered, so that the oldest comes first in `/status`."""
        self.on_empty: Callable[[], object] | None = None
        """Set by the controller while it drains; None costs nothing in steady state."""
        self.awaited: set[Work] | None = None
        """Where new works never cease to come, those that are waited for; None: everybody is."""

    def add(self, work: Work) -> None:
        """Keep the drain waiting for `work`."""
        self.works[work] = None

    def discard(self, work: Work) -> None:
        """Let `work` go. It may have gone already."""
        self.works.pop(work, None)
        if self.on_empty is not None:
            if self.awaited is not None:
                self.awaited.discard(work)
            if not self.pending:
                self.on_empty()

    @property
    def pending(self) -> int:
        """How many works are waited for."""
        return len(self.works if self.awaited is None else self.awaited)

    def __len__(self) -> int:
        return len(self.works)

    def __iter__(self) -> Iterator[Work]:
        return iter(list(self.works))

    def export(self, metrics: Metrics) -> None:
        """Have a scrape count what is held, by kind."""

        def refresh() -> None:
            for (kind,) in metrics.requests_in_flight.values:
                metrics.requests_in_flight.set(self.count(kind), kind)

        metrics.before_scrape.append(refresh)

    def older_than(self, began: float) -> int:
        """Return how many works began at loop time `began` or before."""
        return sum(work.started <= began for work in self.works)

    def count(self, kind: str) -> int:
        """Return how many works of `kind` are held."""
        return sum(work.kind == kind for work in self.works)
