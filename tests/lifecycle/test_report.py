"""One drain, one report: its numbers, its fields, and the termination message the kubelet keeps."""

from __future__ import annotations

import json

import pytest

from drainproxy import metrics
from drainproxy.lifecycle.drain import Drain
from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.propagation import UNKNOWN, Evidence, Reason, Routability
from drainproxy.lifecycle.report import MAX_MESSAGE_BYTES, Cause, Place, Report, Tally, TunnelTally


def report(**changes) -> Report:
    """A plain one, and what differs."""
    plain = {
        "cause": Cause.DELETION,
        "phases_s": {Phase.PROPAGATING: 5.00049, Phase.DRAINING: 0.2},
        "propagation_ended": Reason.QUIET,
        "last_late_after_flip_s": 1.23456,
        "in_flight_at_start": 3,
        "requests": Tally(finished=40, late=7),
        "tunnels": {"websocket": TunnelTally(cut=1, told_to_leave=2)},
        "unused_s": 16.79951,
        "ended_by": "nothing is in flight",
    }
    return Report(**{**plain, **changes})


def test_the_fields_are_the_report_in_plain_words():
    """Seconds to the millisecond; an outcome that did not happen is there with 0."""
    assert report().fields() == {
        "cause": "deletion",
        "ended_by": "nothing is in flight",
        "phases_s": {"propagating": 5.0, "draining": 0.2},
        "propagation_ended": "quiet",
        "last_late_after_flip_s": 1.235,
        "in_flight_at_start": 3,
        "requests": {"finished": 40, "timed_out": 0, "cut": 0, "refused": 0, "lost": 0, "late": 7},
        "tunnels": {
            "websocket": {"finished": 0, "timed_out": 0, "cut": 1, "refused": 0, "lost": 0, "late": 0}
            | {"told_to_leave": 2}
        },
        "unused_s": 16.8,
        "flipped_after_s": None,
        "last_late_s": None,
        "longest_silence_s": None,
        "arrivals_per_s": 0.0,
        "held": 0,
        "handed_off": 0,
        "longest_request_s": 0.0,
    }


def test_a_report_says_whose_it_is():
    """What the pod was told of itself, and no field for what it was not."""
    place = Place(pod="web-1", namespace="shop", workload="web")
    fields = report(place=place).fields()
    assert {name: fields.get(name) for name in ("pod", "namespace", "node", "workload")} == {
        "pod": "web-1",
        "namespace": "shop",
        "node": None,
        "workload": "web",
    }
    assert "node" not in fields
    assert list(fields)[:3] == ["pod", "namespace", "workload"]


def test_the_longest_names_and_words_fit_into_a_termination_message():
    """Its words give way: who it was and what it lost are more."""
    place = Place(pod="p" * 253, namespace="n" * 63, node="o" * 253, workload="w" * 253)
    many = TunnelTally(*[10**9] * 7)
    tunnels = dict.fromkeys(metrics.TUNNELS, many)
    message = report(place=place, ended_by="\U0001f433" * 200, tunnels=tunnels).message()
    assert len(message.encode()) <= MAX_MESSAGE_BYTES
    assert json.loads(message)["pod"] == "p" * 253
    assert json.loads(message)["ended_by"] == "\U0001f433" * 60


def test_the_termination_message_is_the_same_report_as_one_json_line():
    """`kubectl describe pod` shows it."""
    message = report().message()
    assert "\n" not in message
    assert json.loads(message) == report().fields()


LETTERS = ["x", '"', "\n", "\u00fc", "\U0001f433"]
"""One byte in JSON, two, two, six, twelve."""


@pytest.mark.parametrize("letter", LETTERS)
def test_a_message_that_fits_is_not_touched(letter):
    """A reason of 200 letters fits, whatever the letters are."""
    message = report(ended_by=letter * 200).message()
    assert json.loads(message)["ended_by"] == letter * 200
    assert len(message.encode()) <= 4096


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.parametrize("length", [5000, 100_000])
def test_a_message_that_would_be_too_long_is_still_json(letter, length):
    """The kubelet cuts at 4096 bytes: cut words before it does, never brackets."""
    message = report(ended_by=letter * length).message()
    assert len(message.encode()) <= MAX_MESSAGE_BYTES == 4096
    read = json.loads(message)
    assert read["requests"]["finished"] == 40
    assert read["unused_s"] == 16.8


def test_a_tally_is_what_was_counted_since():
    """The counters go on for the life of the process; a report is about one drain."""
    before = Tally(finished=10, timed_out=1, cut=2, refused=3, lost=4, late=5)
    now = Tally(finished=15, timed_out=1, cut=3, refused=3, lost=4, late=9)
    assert now.minus(before) == Tally(finished=5, cut=1, late=4)
    assert now.minus(now) == Tally()


def test_every_cause_has_its_series():
    """A cause without its series would be invisible."""
    assert tuple(Cause) == metrics.CAUSES


def drain(table: metrics.Metrics, **changes) -> Drain:
    """A drain that begins at loop time 100."""
    begun = Drain(
        Cause.UNKNOWN, started=100.0, t0=99.0, in_flight_at_start=2, arrivals_per_s=0.0, metrics=table
    )
    begun.entered = {Phase.PROPAGATING: 100.0, Phase.DRAINED: 110.0}
    for name, value in changes.items():
        setattr(begun, name, value)
    return begun


def closed(begun: Drain, evidence: Evidence = UNKNOWN) -> Report:
    """Its report, at loop time 110."""
    begun.ended(evidence, unused_s=11.0, by="it")
    return begun.close()


def test_a_drains_report_counts_what_happened_in_it():
    """What was counted before the drain began is not its doing."""
    table = metrics.Metrics()
    table.drain_requests.inc("finished", by=100)
    table.late_requests.inc(by=50)
    begun = drain(table)
    for outcome in ("finished", "finished", "timed_out", "cut", "refused", "lost"):
        table.drain_requests.inc(outcome)
    table.drain_tunnels.inc("stream", "cut")
    table.drain_tunnels.inc("websocket", "told_to_leave", by=3)
    table.late_requests.inc(by=3)
    made = closed(begun)
    assert made.requests == Tally(finished=2, timed_out=1, cut=1, refused=1, lost=1, late=3)
    assert made.tunnels == {
        "websocket": TunnelTally(told_to_leave=3),
        "stream": TunnelTally(cut=1),
        "other": TunnelTally(),
    }
    assert made.in_flight_at_start == 2


def test_a_drains_phases_last_from_one_entry_to_the_next():
    """Drained itself is where the report is written: it has no length."""
    table = metrics.Metrics()
    entered = {Phase.PROPAGATING: 100.0, Phase.DRAINING: 107.5, Phase.DRAINED: 110.0}
    assert closed(drain(table, entered=entered)).phases_s == {"propagating": 7.5, "draining": 2.5}


@pytest.mark.parametrize(
    ("evidence", "last_late", "expected"),
    [
        (UNKNOWN, 105.0, None),
        (Evidence(Routability.ROUTABLE, 101.0), 105.0, None),
        (Evidence(Routability.GONE, 101.0), None, None),
        (Evidence(Routability.GONE, 101.0), 105.0, 4.0),
        # Nobody came after the flip.
        (Evidence(Routability.GONE, 106.0), 105.0, 0.0),
    ],
)
def test_seconds_from_flip_to_last_late_arrival_need_both(evidence, last_late, expected):
    """The number everyone guesses with `sleep`, where it could be measured."""
    table = metrics.Metrics()
    assert closed(drain(table, last_late=last_late), evidence).last_late_after_flip_s == expected
