"""Durations on the command lines of the proof: `30s`, `500ms`, `2m`.

A number without a unit is refused, as everywhere in drainproxy: 30 what?
Both verbs use it as an argparse type.
"""

import argparse
import re

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")


def duration(text: str) -> float:
    """Seconds; raises ArgumentTypeError with the sentence argparse prints."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 30s, 500ms or 2m")
    return float(match[1]) * _UNITS_S[match[2]]


def shown(seconds: float) -> str:
    """A duration as a person reads it: 850 us, 12.3 ms, 4.1 s, 2m 05s."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02d}s"
