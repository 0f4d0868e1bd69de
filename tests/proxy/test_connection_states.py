"""The tables of what a client's connection is in the middle of, cell by cell, and what each state means.

The expectations are written out here a second time, in words; `-` is what cannot be.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.proxy.downstream import states as downstream
from drainproxy.proxy.downstream.client import ClientSocket
from drainproxy.proxy.downstream.states import End, SocketState
from drainproxy.proxy.http1 import states
from drainproxy.proxy.http1.connection import ClientConnection
from drainproxy.proxy.http1.states import Doubt, Read, Reading, Reuse, Write, Writing
from tests.proxy.test_transcripts import CUT_ANYWHERE, TRANSCRIPTS
from tests.support.clock import in_fake_time
from tests.support.flavours import of_sources
from tests.support.house import House
from tests.support.transcript import Stage
from tests.support.upstream import Upstream, answering
from tests.support.wire import End as Closed
from tests.support.words import GET, asks

if TYPE_CHECKING:
    from enum import Enum, IntEnum

SOCKET = """
              eof          close      loss
open          half_closed  lingering  closed
half_closed   half_closed  closing    closed
lingering     closing      -          closed
closing       closing      -          closed
closed        closed       -          closed
"""
READING = """
           nothing  part  request  upload    asked  body   reply     answer
idle       idle     head  ahead    expected  -      -      replying  -
head       idle     head  ahead    expected  -      -      replying  -
expected   -        -     -        -         body   -      -         idle
body       -        -     -        -         -      ahead  -         idle
ahead      -        -     -        -         -      -      -         idle
replying   -        -     -        -         -      -      -         idle
"""
WRITING = """
             bytes       last      unsent    delivered  failed  switched
waiting      responding  -         -         -          ended   -
responding   responding  answered  -         -          ended   ended
flushing     -           -         -         ended      ended   -
answered     -           -         flushing  ended      -       -
ended        -           -         -         -          -       -
"""
REUSE = """
        age    eof    shed
may     last   last   never
last    last   last   never
never   never  never  -
"""
TABLES: dict[str, tuple[type[IntEnum], type[Enum], Any, str]] = {
    "socket": (SocketState, End, downstream.TRANSITIONS, SOCKET),
    "reading": (Reading, Read, states.READING, READING),
    "writing": (Writing, Write, states.WRITING, WRITING),
    "reuse": (Reuse, Doubt, states.REUSE, REUSE),
}
OF_A_SOCKET = """
              leaving  gone            idle_otherwise
open          no       no              yes
half_closed   no       unless_allowed  yes
lingering     yes      no              no
closing       yes      unless_allowed  no
closed        yes      yes             no
"""
OF_READING = """
           idle  awaited
idle       yes   no
head       no    no
expected   no    no
body       no    unless_paused
ahead      no    no
replying   no    no
"""
TOGETHER = """
           none  waiting  responding  flushing  answered  ended
idle       yes   no       no          no        no        no
head       yes   no       no          no        no        no
expected   no    yes      no          no        no        no
body       no    yes      yes         yes       yes       no
ahead      no    yes      yes         yes       yes       no
replying   yes   no       no          no        no        no
"""
"""What an exchange may be in the middle of while that is being read; `none`: there is none."""


def cells(table: str) -> list[tuple[str, str, str]]:
    """Return (row, column, cell) of a table of words."""
    head, *rows = [line.split() for line in table.strip().splitlines()]
    return [(row, column, value) for row, *values in rows for column, value in zip(head, values, strict=True)]


@pytest.mark.parametrize(
    ("of", "state", "event", "expected"),
    [(of, *cell) for of, (*_, expected) in TABLES.items() for cell in cells(expected)],
)
def test_each_event_leads_where_it_should_and_what_cannot_be_raises(
    of: str, state: str, event: str, expected: str
) -> None:
    """A state that nobody thought of is a defect that is seen, not one that is waited in."""
    kind, events, table, _ = TABLES[of]
    before, row = kind[state.upper()], table[events(event)]
    if expected == "-":
        with pytest.raises(KeyError):
            row[before]
    else:
        assert row[before] is kind[expected.upper()]


@pytest.mark.parametrize("of", TABLES)
def test_a_table_has_no_cell_that_is_not_expected(of: str) -> None:
    """A state or an event that is added needs a row or a column in this file."""
    kind, events, table, expected = TABLES[of]
    named = {(state, event) for state, event, _ in cells(expected)}
    assert named == {(state.name.lower(), event.value) for state in kind for event in events}
    assert set(table) == set(events)


def test_what_is_expected_of_each_state_is_written_here() -> None:
    """A state that is added means something."""
    assert {state for state, *_ in cells(OF_A_SOCKET)} == {state.name.lower() for state in SocketState}
    assert {state for state, *_ in cells(OF_READING)} == {state.name.lower() for state in Reading}
    pairs = {(reading.name.lower(), word) for reading in Reading for word in ["none", *_words(Writing)]}
    assert {(reading, writing) for reading, writing, _ in cells(TOGETHER)} == pairs


def _words(kind: type[IntEnum]) -> list[str]:
    return [state.name.lower() for state in kind]


@pytest.mark.parametrize("half_close", [False, True], ids=["", "allow_half_close"])
@pytest.mark.parametrize("state", SocketState)
async def test_each_state_of_a_socket_means_what_it_says(state: SocketState, *, half_close: bool) -> None:
    """From whom nothing is taken any more, and who reads no answer."""
    house = House("http://application:80", allow_half_close=half_close)
    client = ClientSocket(house.registry)
    client.state = state
    means = {column: cell for row, column, cell in cells(OF_A_SOCKET) if row == state.name.lower()}
    assert client.leaving is (means["leaving"] == "yes")
    assert client.gone is (means["gone"] == "yes" or (means["gone"] == "unless_allowed" and not half_close))


@pytest.mark.parametrize("paused", [False, True], ids=["", "body_paused"])
@pytest.mark.parametrize(("reading", "state"), list(itertools.product(Reading, SocketState)))
async def test_a_connection_idles_and_is_awaited_by_what_is_read(
    reading: Reading, state: SocketState, *, paused: bool
) -> None:
    """It idles between two requests, unless it ends; the client holds things up that owes a body."""
    house = House("http://application:80")
    client = ClientConnection(house.registry)
    client._reading, client.state, client._body_paused = reading, state, paused
    of_socket = {column: cell for row, column, cell in cells(OF_A_SOCKET) if row == state.name.lower()}
    means = {column: cell for row, column, cell in cells(OF_READING) if row == reading.name.lower()}
    assert client.idle is (means["idle"] == of_socket["idle_otherwise"] == "yes")
    assert client.awaited is (means["awaited"] == "unless_paused" and not paused)
    assert client.silent
    client.write_paused = True
    assert client.awaited is True


class Watched(Stage):
    """Looks at the connection's states whenever something has happened."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        connection = self.client.get_protocol()
        assert isinstance(connection, ClientConnection)
        self._connection = connection
        self.seen: set[tuple[str, str]] = set()

    async def _happens(self, what: str, data: bytes, *, bytewise: bool) -> None:
        for piece in [data[at : at + 1] for at in range(len(data))] if bytewise and data else [data]:
            await super()._happens(what, piece, bytewise=False)
            self._look()

    def _look(self) -> None:
        connection = self._connection
        if connection.leaving or self.client.get_protocol() is not connection:
            return
        exchange, reading = connection._exchange, connection._reading
        self.seen.add((reading.name.lower(), "none" if exchange is None else exchange._writing.name.lower()))
        assert (reading is states.HEAD) is (connection._partial is not None)


@pytest.mark.parametrize(
    ("name", "bytewise"), [*((name, False) for name in TRANSCRIPTS), *((name, True) for name in CUT_ANYWHERE)]
)
@in_fake_time
async def test_no_conversation_leads_to_what_cannot_be_together(name: str, *, bytewise: bool) -> None:
    """Nor to a head that has begun and is no work."""
    stage = Watched()
    await stage.play(TRANSCRIPTS[name], bytewise=bytewise)
    assert stage.seen <= {(reading, writing) for reading, writing, cell in cells(TOGETHER) if cell == "yes"}


@pytest.mark.parametrize("asked", [GET, asks("OPTIONS", "/", "Max-Forwards: 0")], ids=["answer", "ours"])
@of_sources("it replaces a method")
async def test_a_defect_behind_an_answer_ends_the_connection_at_once(
    asked: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was left to its timer, and its request in flight."""
    async with Upstream(answering()) as upstream, House(upstream) as house:

        def broken(_self: ClientConnection) -> None:
            raise RuntimeError("a defect")

        monkeypatch.setattr(ClientConnection, "exchange_done", broken)
        monkeypatch.setattr(ClientConnection, "flushed", broken)
        client = await house.client()
        await client.send(asked)
        await client.final()
        assert await client.read_eof() is Closed.FIN
        client.close()
        await house.until(lambda: not len(house.inflight))
        assert "a defect" in house.diary.lines.pop()["failure"]
