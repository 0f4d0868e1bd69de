"""Results: what was counted, and the verdict over it. Plain data; the tables and the JSON read it."""

from collections.abc import Iterator
from dataclasses import dataclass

from drainproxy.proof.demo.kubelet import Gone
from drainproxy.proof.demo.ledger import Orders
from drainproxy.proof.outcomes import Kind

# Fewer requests than this and the clients did not really run: a zero would prove nothing.
MIN_REQUESTS_PER_ROLE = 2
GOING_AWAY = 1001  # RFC 6455 section 7.4.1


@dataclass(frozen=True, slots=True)
class LossResult:
    """One lost request; `after_s` is when it was sent, counted from the signal."""

    after_s: float
    took_s: float
    role: str
    kind: Kind
    error: str
    pod: str


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one crowd of clients saw."""

    requests: int
    retried: int
    losses: tuple[LossResult, ...]
    orders: Orders
    requests_by_role: dict[str, int]

    @property
    def lost(self) -> int:
        return len(self.losses)

    def lost_as(self, *kinds: Kind) -> int:
        return sum(1 for loss in self.losses if loss.kind in kinds)


@dataclass(frozen=True, slots=True)
class LongLivedResult:
    """How the old pod let go of those who stayed: WebSockets by close code, event streams by their end."""

    close_codes: dict[int, int]
    streams_whole: int
    streams_cut: int

    def faults(self) -> Iterator[str]:
        """What drainproxy must answer for."""
        for code, count in self.close_codes.items():
            if code != GOING_AWAY:
                yield f"{count} WebSockets ended with {code}, not {GOING_AWAY}"
        if self.streams_cut:
            yield f"{self.streams_cut} event streams were cut in mid event"


@dataclass(frozen=True, slots=True)
class LaneResult:
    name: str
    judged: bool  # drainproxy: the verdict is about it, the others are there to compare
    load: LoadResult
    before_signal: tuple[int, int]  # requests and losses while nothing happened
    gone: Gone
    long_lived: LongLivedResult

    def faults(self) -> Iterator[str]:
        """What drainproxy must answer for."""
        load = self.load
        if load.lost:
            yield f"{self.name} lost {load.lost:,} of {load.requests:,} requests"
        if load.orders.duplicated:
            yield f"{self.name} duplicated {load.orders.duplicated:,} orders"
        if load.orders.missing:
            yield f"{self.name} confirmed {load.orders.missing:,} orders nobody processed"
        yield from (f"{self.name}: {fault}" for fault in self.long_lived.faults())
        if self.gone.killed:
            yield f"{self.name} had to be killed at the end of the grace period"

    def gaps(self) -> Iterator[str]:
        """What makes this lane no measurement."""
        for role, count in self.load.requests_by_role.items():
            if count < MIN_REQUESTS_PER_ROLE:
                yield f"{self.name}: only {count} requests of '{role}'"
        if not self.judged and self.before_signal[1]:
            yield f"{self.name}: {self.before_signal[1]} requests lost before anything happened"
        if not self.load.orders.processed:
            yield f"{self.name}: the ledger is empty"
        if not self.long_lived.close_codes or not self.long_lived.streams_whole + self.long_lived.streams_cut:
            yield f"{self.name}: no WebSocket or no event stream was seen to end"


@dataclass(frozen=True, slots=True)
class RunResult:
    lag_s: float
    lanes: tuple[LaneResult, ...]


@dataclass(frozen=True, slots=True)
class IdleResult:
    """Nothing happens: the same requests directly and through drainproxy, in turn."""

    pairs: int
    errors: int
    direct_p50_s: float
    direct_p99_s: float
    proxied_p50_s: float
    proxied_p99_s: float


@dataclass(frozen=True, slots=True)
class KilledResult:
    """drainproxy killed with -9 under load, and started again as the kubelet does."""

    load: LoadResult
    back_after_s: float  # from the kill until it was ready again


@dataclass(frozen=True, slots=True)
class DemoResult:
    runs: tuple[RunResult, ...]
    idle: IdleResult
    killed: KilledResult

    def faults(self) -> list[str]:
        judged = [(run.lag_s, lane) for run in self.runs for lane in run.lanes if lane.judged]
        found = [f"lag {lag:g} s: {fault}" for lag, lane in judged for fault in lane.faults()]
        if self.idle.errors:
            found.append(f"idle: {self.idle.errors} errors")
        return found

    def gaps(self) -> list[str]:
        found = [
            f"lag {run.lag_s:g} s: {gap}" for run in self.runs for lane in run.lanes for gap in lane.gaps()
        ]
        if not self.idle.pairs:
            found.append("idle: no request was made")
        return found
