"""Durations of the proof: on its command lines, and as a person reads them.

Both verbs use `duration` as an argparse type; what a duration is, `values.py` says for all of drainproxy.
"""

import argparse

from drainproxy import values


def duration(text: str) -> float:
    """Seconds; raises ArgumentTypeError with the sentence argparse prints."""
    try:
        return values.duration(text.strip())
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}: write 30s, 500ms or 2m") from None


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
