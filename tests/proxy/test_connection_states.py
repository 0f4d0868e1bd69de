"""The tables of what a client's connection is in the middle of, cell by cell, and what each state means.

The expectations are written out here a second time, in words; `-` is what cannot be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.proxy.downstream import states as downstream
from drainproxy.proxy.downstream.client import ClientSocket
from drainproxy.proxy.downstream.states import End, SocketState
from tests.support.house import House

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import Enum

SOCKET = """
              eof          close      loss
open          half_closed  lingering  closed
half_closed   half_closed  closing    closed
lingering     closing      -          closed
closing       closing      -          closed
closed        closed       -          closed
"""
MEANING = """
              leaving  gone
open          no       no
half_closed   no       unless_allowed
lingering     yes      no
closing       yes      unless_allowed
closed        yes      yes
"""


def cells(table: str) -> list[tuple[str, str, str]]:
    """Return (row, column, cell) of a table of words."""
    head, *rows = [line.split() for line in table.strip().splitlines()]
    return [(row, column, value) for row, *values in rows for column, value in zip(head, values, strict=True)]


def leads(table: Mapping[Any, Mapping[Any, Enum]], event: Enum, state: Enum, expected: str) -> None:
    """What follows is what is expected, and what cannot be raises."""
    if expected == "-":
        with pytest.raises(KeyError):
            table[event][state]
    else:
        assert table[event][state] is type(state)[expected.upper()]


@pytest.mark.parametrize(("state", "event", "expected"), cells(SOCKET))
def test_each_end_of_a_socket_leads_on(state: str, event: str, expected: str) -> None:
    """A half of it is closed once, and what is closed is not opened again."""
    leads(downstream.TRANSITIONS, End(event), SocketState[state.upper()], expected)


def test_the_socket_has_no_cell_that_is_not_expected() -> None:
    """A state or an event that is added needs a row or a column in this file."""
    expected = {(state, event) for state, event, _ in cells(SOCKET)}
    assert expected == {(state.name.lower(), event.value) for state in SocketState for event in End}
    assert {state for state, _, _ in cells(MEANING)} == {state.name.lower() for state in SocketState}


@pytest.mark.parametrize("half_close", [False, True], ids=["", "allow_half_close"])
@pytest.mark.parametrize(("state", "column", "expected"), cells(MEANING))
async def test_each_state_of_a_socket_means_what_it_says(
    state: str, column: str, expected: str, half_close: bool
) -> None:
    """From whom nothing is taken any more, and who reads no answer."""
    house = House("http://application:80", allow_half_close=half_close)
    client = ClientSocket(house.registry)
    client.state = SocketState[state.upper()]
    assert getattr(client, column) is (expected == "yes" or (expected == "unless_allowed" and not half_close))
