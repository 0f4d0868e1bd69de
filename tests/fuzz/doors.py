"""The doors through which bytes come in, each with its oracle, its sentences and its seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, settings

from tests.conformance import corpus
from tests.conformance.cases import RequestCase
from tests.fuzz import frames, oracles, sentences, streams

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis import strategies as st

MAX_SEED_BYTES = 4000


@dataclass(frozen=True, slots=True)
class Door:
    """One way in."""

    check: Callable[[bytes, list[int]], None]
    nearly_good: st.SearchStrategy[bytes]
    seeds: Callable[[], list[bytes]]

    def explore(self, examples: int) -> None:
        """Draw so many examples; raise the AssertionError of one that breaks an invariant."""

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(self.nearly_good, sentences.cuts)
        def each(data: bytes, cuts: list[int]) -> None:
            self.check(data, cuts)

        each()


def _own(*, requests: bool) -> list[bytes]:
    found = [case for suite in corpus.load().values() for case in suite.cases]
    return [case.sent[:MAX_SEED_BYTES] for case in found if isinstance(case, RequestCase) is requests]


def _balancers() -> list[bytes]:
    version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)
    return [b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 443\r\n", b"PROXY UNKNOWN\r\n", version_2]


OF_SOURCES = {"http2": "its streams are none"}
"""Doors that reach into what compiling seals, and why."""

DOORS = {
    "client": Door(oracles.client_bytes, sentences.pipelines, partial(_own, requests=True)),
    "application": Door(oracles.application_bytes, sentences.responses, partial(_own, requests=False)),
    "application-head": Door(
        partial(oracles.application_bytes, method=b"HEAD"), sentences.responses, partial(_own, requests=False)
    ),
    "proxy-header": Door(oracles.proxy_bytes, sentences.proxy_headers, _balancers),
    "websocket": Door(frames.websocket_bytes, sentences.changed(frames.conversations), frames.seeds),
    "http2": Door(streams.http2_bytes, streams.connections, streams.seeds),
}
