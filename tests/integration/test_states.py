"""Clients that stop in every state there is: the short form of `make states` (tests/chaos/standstill.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.wire.garbage import FREE_BYTES
from tests.chaos.standstill import BACK_S, HONEST, MIB, doors, stand, truthful
from tests.chaos.states import BY_NAME, STATES
from tests.support.cgroup import memory_group
from tests.support.process import Proxy

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS = 250
TOLD_CLIENTS = {
    **dict.fromkeys(
        ("silent", "idle", "idle WebSocket", "chunk line", "small held requests", "header block"), 3_000
    ),
    **dict.fromkeys(("HTTP/2 idle", "frame header", "PROXY header", "small head", "idle in TLS"), 1_500),
    **dict.fromkeys(("trailer", "ClientHello", "half a frame", "streams"), 600),
    **dict.fromkeys(("head", "pipelined", "held requests", "unread answer", "tunnel", "body ahead"), 400),
}
"""So many that what was free inside the process before (FIRST_CLIENTS of them) is little beside them; up to
FREE_BYTES are kept."""
LIMIT_MIB = 64
PATIENCE = 4
"""A busy machine takes so many times as long."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLD_CLIENTS)
async def test_what_is_held_is_told_and_let_go_of(tmp_path: Path, loop_kind: str, name: str) -> None:
    """Without a limit in the way: `buffered_bytes` grows as the process does, and both come back."""
    state = BY_NAME[name]
    async with (
        doors(tmp_path, state.door) as (how, authority, _),
        Proxy(loop=loop_kind, max_buffer_bytes="1GiB", **how) as proxy,
    ):
        await proxy.ready()
        stood = await stand(proxy, state, TOLD_CLIENTS[name], authority, spare_bytes=FREE_BYTES)
        said = f"told of {stood.told / MIB:.1f} of {stood.resident / MIB:.1f} MiB"
        assert set(stood.outcomes) <= HONEST, stood.outcomes
        assert stood.back_s < PATIENCE * BACK_S, f"{said}, {stood.left / MIB:.1f} are left"
        assert truthful(stood.told, stood.resident, FREE_BYTES), said
        assert not [line for line in proxy.lines if line["event"] == "defect"]


@pytest.mark.slow
@pytest.mark.parametrize("door", ["plain", "proxy", "tls"])
async def test_nobody_brings_the_process_down_under_a_small_limit(
    tmp_path: Path, loop_kind: str, door: str
) -> None:
    """It goes on, and who is turned away hears it."""
    with memory_group(LIMIT_MIB * MIB) as group:
        settings = {} if group else {"max_connections": "1638", "max_buffer_bytes": "7864320"}
        async with (
            doors(tmp_path, door) as (how, authority, _),
            Proxy(loop=loop_kind, cgroup=group, **settings, **how) as proxy,
        ):
            await proxy.ready()
            for state in (state for state in STATES if state.door == door and not state.pieces):
                stood = await stand(proxy, state, CLIENTS, authority)
                assert set(stood.outcomes) <= HONEST, f"{state.name}: {stood.outcomes}"
                # The group is the judge; the pages of files, which are resident too, are not all in it.
                assert group or stood.peak < (LIMIT_MIB + 16) * MIB
            assert not [line for line in proxy.lines if line["event"] == "defect"]
