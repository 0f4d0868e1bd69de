"""A crowd that hangs up at once is told of few at a time, and nobody is told of late behind it."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
from typing import TYPE_CHECKING

import pytest

from drainproxy.cli.main import _loop_factory
from drainproxy.proxy.wire.selector import ENDS_A_TURN, Selector, new_event_loop
from tests.support.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

CROWD = 3 * ENDS_A_TURN


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Both ends of a crowd's connections and of one more, ours first."""
    with contextlib.ExitStack() as open_, socket.create_server(("127.0.0.1", 0), backlog=CROWD + 1) as door:
        made = []
        for _ in range(CROWD + 1):
            theirs = open_.enter_context(socket.create_connection(door.getsockname()))
            ours = open_.enter_context(door.accept()[0])
            ours.setblocking(False)
            made.append((ours, theirs))
        yield made


def test_ends_are_told_of_few_at_a_time_and_who_speaks_at_once(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    """Each end is told of once it is its turn, and none is forgotten."""
    *crowd, (speaker, mouth) = pairs
    with Selector() as selector:
        for ours, _ in pairs:
            selector.register(ours, selectors.EVENT_READ)
        for _, theirs in crowd:
            Wire(theirs).reset()
        mouth.send(b"x")
        told: list[int] = []
        for _ in range(CROWD // ENDS_A_TURN):
            ready = [key.fileobj for key, _ in selector.select(0)]
            assert speaker in ready
            ends = [ours for ours in ready if ours is not speaker]
            assert len(ends) == ENDS_A_TURN
            told += [selector.unregister(ours).fd for ours in ends]
        assert sorted(told) == sorted(ours.fileno() for ours, _ in crowd)
        assert [key.fileobj for key, _ in selector.select(0)] == [speaker]


def test_few_ends_are_told_of_together(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    """Beside any number of those who speak."""
    with Selector() as selector:
        for ours, _ in pairs:
            selector.register(ours, selectors.EVENT_READ)
        for _, theirs in pairs[:ENDS_A_TURN]:
            Wire(theirs).reset()
        for _, theirs in pairs[ENDS_A_TURN:]:
            theirs.send(b"x")
        assert len(selector.select(0)) == len(pairs)


class _Gone(asyncio.Protocol):
    """Says when its connection was lost."""

    def __init__(self, lost: list[int], turn: list[int]) -> None:
        self._lost, self._turn = lost, turn

    def connection_lost(self, exc: Exception | None) -> None:
        assert isinstance(exc, ConnectionResetError)
        self._lost.append(self._turn[0])


def test_a_loop_loses_a_crowd_in_several_turns(pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    """So many connections in a turn at most, and each with its reset."""
    lost, turn = [], [0]

    async def lose() -> None:
        loop = asyncio.get_running_loop()
        for ours, _ in pairs:
            await loop.create_connection(lambda: _Gone(lost, turn), sock=ours)
        for _, theirs in pairs:
            Wire(theirs).reset()
        while len(lost) < len(pairs) and turn[0] < 10 * len(pairs):
            await asyncio.sleep(0)
            turn[0] += 1

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(lose())
    assert len(lost) == len(pairs)
    assert max(lost.count(each) for each in set(lost)) <= ENDS_A_TURN


def test_it_is_the_loop_that_ships() -> None:
    """Where asyncio's is asked for."""
    assert _loop_factory("asyncio") is new_event_loop
