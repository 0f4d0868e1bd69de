"""Single requests from this process: is it up, and is the answer the right one?"""

from __future__ import annotations

import http.client
import time
from typing import TYPE_CHECKING

from bench.processes import BenchError

if TYPE_CHECKING:
    from bench.processes import Program

READY_TIMEOUT_S = 15.0
READY_STEP_S = 0.002
"""How often readiness is asked for: well below every start-up time that is measured."""
FETCH_TIMEOUT_S = 5.0


def fetch(port: int, path: str) -> tuple[int, bytes]:
    """One GET on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=FETCH_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def wait_for_200(program: Program, port: int, path: str) -> None:
    """Return as soon as `path` answers 200; say why when it never does."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if program.process.poll() is not None:
            raise BenchError(f"It ended with {program.process.returncode}: {program.last_words()}")
        try:
            if fetch(port, path)[0] == 200:
                return
        except (OSError, http.client.HTTPException):
            pass  # not listening yet
        time.sleep(READY_STEP_S)
    raise BenchError(f"No 200 from {path} within {READY_TIMEOUT_S:g} s: {program.last_words()}")


def check_answer(port: int, path: str, body: bytes) -> None:
    """The answer is a 200 with exactly this body, twice on end."""
    for _ in range(2):
        try:
            status, received = fetch(port, path)
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{path}: {error!r} in place of an answer.") from error
        if status != 200 or received != body:
            raise BenchError(f"{path}: {status} with {len(received)} bytes, not the expected body.")
