"""Load by wrk: one thread, keep-alive, bounded in time. One wrong answer makes a run an error."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchError, find_program

CLOSED_LOOP = Path(__file__).with_name("closed_loop.lua")
MODERATE_RATE = Path(__file__).with_name("moderate_rate.lua")
MARGIN_S = 15.0
"""wrk ends by itself; this much later it is ended."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    seconds: float
    received_bytes: int
    p50_us: float
    p99_us: float


def wrk(url: str, *, script: Path, connections: int, seconds: float, body: bytes) -> Load:
    """Load `url`, pinned where the caller is. Every answer has to be a 2xx carrying `body`.

    wrk itself only counts what is above 399. A redirect or an empty answer is found by the bytes received,
    and under `MODERATE_RATE` every single body is compared.
    """
    binary = find_program("wrk")
    if binary is None:
        raise BenchError("wrk is not installed (Debian: wrk).")
    # wrk takes whole seconds only.
    duration = max(1, round(seconds))
    command = [binary, "-t1", f"-c{connections}", f"-d{duration}s", "--timeout", "5s"]
    command += ["-s", str(script), url, "--"]
    if script == MODERATE_RATE:
        command.append(body.decode("ascii"))
    ended = subprocess.run(command, capture_output=True, text=True, timeout=duration + MARGIN_S, check=False)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if ended.returncode != 0 or not lines:
        raise BenchError(f"wrk ended with {ended.returncode}: {(ended.stderr or ended.stdout)[-300:]}")
    seen: dict[str, float] = json.loads(lines[-1])
    load = Load(
        requests=int(seen["requests"]),
        seconds=seen["duration_us"] / 1e6,
        received_bytes=int(seen["bytes"]),
        p50_us=seen["p50_us"],
        p99_us=seen["p99_us"],
    )
    _refuse_wrong_answers(seen, load, len(body))
    return load


def _refuse_wrong_answers(seen: dict[str, float], load: Load, body_bytes: int) -> None:
    wrong = {
        name: int(seen[name])
        for name in ("connect", "read", "write", "status", "timeout", "wrong_answers")
        if seen[name]
    }
    if wrong:
        counts = ", ".join(f"{count} {name}" for name, count in wrong.items())
        raise BenchError(f"Of {load.requests} requests some failed: {counts}.")
    if load.requests == 0:
        raise BenchError("wrk finished no request.")
    if load.received_bytes < load.requests * body_bytes:
        raise BenchError(f"{load.received_bytes} bytes are too few for {load.requests} answers.")
