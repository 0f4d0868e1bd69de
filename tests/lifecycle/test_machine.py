"""Both tables of the lifecycle, cell by cell, against what the manual promises.

The expectations are written out here a second time, in words, so that a change of a table is a change of
two files and is seen.
"""

from __future__ import annotations

import pytest

from drainproxy import metrics
from drainproxy.lifecycle.machine import POLICY, TRANSITIONS, Event, IfRoutable, Phase, step

NEXT = """
              upstream_up  upstream_down  terminate    resume       forgotten    idle         deadline
starting      ready        starting       by_slices    starting     starting     starting     starting
ready         ready        ready          propagating  ready        ready        ready        ready
propagating   propagating  propagating    propagating  ready        draining     propagating  drained
draining      draining     draining       draining     draining     draining     drained      drained
drained       drained      drained        drained      ready        drained      drained      drained
"""
BY_SLICES = {True: "propagating", False: "draining"}
"""A pod that was never ready is expected to have no callers, unless an own slice row says otherwise."""

MEANING = """
                 starting           ready              propagating  draining             drained
readyz           NOT_READY          WHILE_UPSTREAM_UP  BY_SETTING   NOT_READY            NOT_READY
new_request      CONNECT_PATIENTLY  FORWARD            FORWARD_LATE FORWARD_UNTIL_REFUSE FORWARD_AFTER_DRAINED
reuse            KEEP               KEEP               DISCOURAGE   CLOSE                CLOSE
streams          RUN                RUN                RUN          LEAVE                GONE
"""


def cells(table: str) -> list[tuple[str, str, str]]:
    """Return (row, column, cell) of a table of words."""
    head, *rows = [line.split() for line in table.strip().splitlines()]
    return [(row, column, value) for row, *values in rows for column, value in zip(head, values, strict=True)]


@pytest.mark.parametrize("routable", [False, True], ids=["not-routable", "routable"])
@pytest.mark.parametrize(("phase", "event", "expected"), cells(NEXT))
def test_each_event_leads_where_the_manual_says(phase, event, expected, routable):
    """Every phase answers every event, and only SIGTERM before ready asks the slices where to go."""
    if expected == "by_slices":
        expected = BY_SLICES[routable]
    assert step(Phase(phase), Event(event), routable=routable) is Phase(expected)


def test_the_transitions_have_no_cell_that_is_not_expected():
    """A phase or an event that is added needs a row or a column in this file."""
    expected = {(phase, event) for phase, event, _ in cells(NEXT)}
    assert {(phase, event) for phase in TRANSITIONS for event in TRANSITIONS[phase]} == expected
    assert expected == {(phase, event) for phase in Phase for event in Event}


def test_one_cell_alone_asks_the_slices():
    """What follows is otherwise known from phase and event."""
    asking = [
        (phase, event)
        for phase, row in TRANSITIONS.items()
        for event, cell in row.items()
        if isinstance(cell, IfRoutable)
    ]
    assert asking == [(Phase.STARTING, Event.TERMINATE)]


@pytest.mark.parametrize(("column", "phase", "expected"), cells(MEANING))
def test_each_phase_means_what_the_manual_says(column, phase, expected):
    """Every column of the policy has its word in every phase."""
    assert getattr(POLICY[Phase(phase)], column).name == expected


def test_the_policy_has_no_column_that_is_not_expected():
    """A column that is added needs a row in this file; so does a listener that would close early."""
    columns = {column for column, _, _ in cells(MEANING)}
    assert columns == set(POLICY[Phase.READY].__slots__)
    assert set(POLICY) == set(Phase)


def test_drained_can_be_reached_from_everywhere_and_left_by_undrain_alone():
    """The end is always within reach, and only a person who drained by hand takes it back."""
    reached = {Phase.DRAINED}
    for _ in Phase:
        reached |= {
            phase
            for phase in Phase
            for event in Event
            for routable in (False, True)
            if step(phase, event, routable=routable) in reached
        }
    assert reached == set(Phase)
    left_by = {event: step(Phase.DRAINED, event, routable=True) for event in Event}
    assert left_by == {**dict.fromkeys(Event, Phase.DRAINED), Event.RESUME: Phase.READY}


def test_the_metrics_know_every_phase():
    """A phase without its series would be invisible."""
    assert tuple(Phase) == metrics.PHASES
