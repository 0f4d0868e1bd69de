"""A drain's report, wherever it survives: a termination message, a line of a log, an Event.

Pure. What others have written is checked before it is believed: a termination message may be anybody's.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from drainproxy.lifecycle.propagation import Reason
from drainproxy.metrics import OUTCOMES, TOLD_TO_LEAVE

Report = Mapping[str, Any]

EVENT = "drain_report"
LOSSES = tuple(outcome for outcome in OUTCOMES if outcome != "finished")
LINES_OWN = frozenset(("time", "level", "event", "message", "severity"))
"""Fields of a line that are no report's."""
MAX_TEXT_CHARS = 64 * 1024

_TEXT_FIELD = re.compile(r" ([a-z_0-9]+)=")
_DECODER = json.JSONDecoder()


def of_message(text: str) -> Report | None:
    """Return what a termination message, or an Event's annotation, reports; None where it is another's."""
    return _checked(_json(text))


def of_line(line: str) -> Report | None:
    """Return the report that a line of a log holds, in whichever format it was written."""
    if EVENT not in line or len(line) > MAX_TEXT_CHARS:
        return None
    said = _json(line)
    if said is None:
        return _checked(_text(line))
    if not isinstance(said, dict):
        return None
    # ecs keeps what is ours under our name, gcp and json beside their own fields.
    action = said.get("event")
    if isinstance(action, dict):
        action, said = action.get("action"), said.get("drainproxy")
    report = _checked(said) if action == EVENT else None
    return None if report is None else {name: each for name, each in report.items() if name not in LINES_OWN}


def counts(report: Report) -> dict[str, int]:
    """Return what became of requests and tunnels together, told to leave among it."""
    tallies = [report["requests"], *report["tunnels"].values()]
    return {
        outcome: sum(_number(each, outcome) for each in tallies) for outcome in (*OUTCOMES, TOLD_TO_LEAVE)
    }


def lost(report: Report) -> int:
    """Return how many were not served to the end."""
    said = counts(report)
    return sum(said[outcome] for outcome in LOSSES)


def seconds(report: Report) -> float:
    """Return how long the drain took."""
    return float(sum(report["phases_s"].values()))


def _number(tally: Any, name: str) -> int:
    value = tally.get(name, 0)
    return value if isinstance(value, int) else 0


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text(line: str) -> dict[str, Any] | None:
    """Return the fields of a line of text (log.py): a bare word, a number or JSON each."""
    if f" {EVENT} " not in line:
        return None
    found: dict[str, Any] = {}
    at = line.index(f" {EVENT} ") + len(EVENT) + 1
    while (name := _TEXT_FIELD.match(line, at)) is not None:
        try:
            value, at = _DECODER.raw_decode(line, name.end())
        except ValueError:
            value, _, _ = line[name.end() :].partition(" ")
            at = name.end() + len(value)
        found[name[1]] = value
    return found


def _checked(said: Any) -> Report | None:
    """Return a report of which everything that is read later is there, and of the right kind."""
    if not isinstance(said, dict):
        return None
    phases, requests, tunnels = (said.get(name, {}) for name in ("phases_s", "requests", "tunnels"))
    tallies = [requests, *tunnels.values()] if isinstance(tunnels, dict) else [None]
    good = (
        isinstance(said.get("cause"), str)
        and isinstance(said.get("ended_by"), str)
        and isinstance(phases, dict)
        and all(isinstance(each, (int, float)) for each in phases.values())
        and "requests" in said
        and all(isinstance(each, dict) for each in tallies)
        and said.get("propagation_ended") in {None, *Reason}
    )
    numbers = ("unused_s", "last_late_s", "last_late_after_flip_s", "flipped_after_s", "longest_silence_s")
    if not good or not all(isinstance(said.get(name, 0) or 0, (int, float)) for name in numbers):
        return None
    return {"tunnels": {}, "phases_s": phases, **said}
