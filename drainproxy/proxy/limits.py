"""What all listeners of a process share so that it is never overrun. Made once, by the composition root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from drainproxy import errors
from drainproxy.proxy.places import Places
from drainproxy.proxy.turns import Turns

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from drainproxy.metrics import Metrics
    from drainproxy.proxy.buffers import Buffers
    from drainproxy.proxy.capacity import Capacity
    from drainproxy.proxy.settings import ProxySettings
    from drainproxy.proxy.upstream import Pool


@dataclass(frozen=True, slots=True)
class Limits:
    """Places for connections, turns for requests, room for what passes through."""

    buffers: Buffers
    places: Places
    turns: Turns | None
    """None: everybody goes at once."""


def build(
    settings: ProxySettings,
    capacity: Capacity,
    buffers: Buffers,
    pools: Sequence[Pool],
    metrics: Metrics,
    loop: asyncio.AbstractEventLoop,
) -> Limits:
    """Return the limits that these settings and this capacity make."""
    places = Places(capacity, pools, metrics, settings.max_connections_per_ip)
    turns = None if settings.max_in_flight is None else Turns(settings.max_in_flight, settings, loop)

    metrics.buffered_bytes_limit.set(buffers.max_bytes)
    for reason in _reasons(settings):
        metrics.refused.values[reason,] = 0.0

    def refresh() -> None:
        metrics.requests_queued.set(0 if turns is None else turns.queued)
        metrics.buffered_bytes.set(buffers.held_bytes)
        metrics.breaker_open.set(float(any(pool.breaker.open for pool in pools)))

    metrics.before_scrape.append(refresh)
    return Limits(buffers, places, turns)


def _reasons(settings: ProxySettings) -> list[str]:
    """Return why something may be refused with these settings: an alert needs each at 0 before it is 1."""
    chosen: dict[type[errors.RequestError], object] = {
        errors.TooManyPerClient: settings.max_connections_per_ip,
        errors.QueueFull: settings.max_in_flight,
        errors.QueueTimeout: settings.max_in_flight,
        errors.BodyTooLarge: settings.max_body_bytes,
    }
    reasons: list[type[errors.RequestError]] = [*errors.leaves(errors.LimitReached), errors.BodyTooLarge]
    return [leaf.reason for leaf in reasons if chosen.get(leaf, True) is not None]
