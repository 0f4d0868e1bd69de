"""How a proxy ends: SIGTERM with a request in flight, then the time from its last byte to the process's end.

The preStop helper is measured here too.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bench.application import SMALL_BODY
from bench.measure import run_and_account
from bench.processes import BenchError
from bench.results import Column, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.proxies import Contender
    from bench.rounds import Setting

HELD = "/held"
HELD_S = 1.5
"""How long the request outlives SIGTERM: past drainproxy's window for late arrivals (1 s)."""
EXIT_TIMEOUT_S = 30.0
ACCEPT_TIMEOUT_S = 15.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(SMALL_BODY), SMALL_BODY)
HELPER_RUNS = 5


class HoldingApplication:
    """Answers at once, but `/held` only on `release`. Its threads end with their connections."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.release = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        """Take no more connections."""
        self.release.set()
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(EXIT_TIMEOUT_S)
        with connection:
            try:
                while head := _read_head(connection):
                    if head.startswith(f"GET {HELD} ".encode("ascii")):
                        self.entered.set()
                        self.release.wait(EXIT_TIMEOUT_S)
                    connection.sendall(ANSWER)
            except OSError:
                return


@contextmanager
def holding_application() -> Iterator[HoldingApplication]:
    """Run it for as long as the block lasts."""
    held = HoldingApplication()
    try:
        yield held
    finally:
        held.close()


def exit_time(contender: Contender, column: Column, setting: Setting, number: int) -> None:
    """One sample; a contender that does not finish the request gets a word in place of a time."""
    directory = setting.directory / f"{contender.name}-exit-{number}"
    with (
        holding_application() as held,
        contender.started(core=setting.cores.proxy, upstream=held.port, directory=directory) as (
            program,
            place,
        ),
        socket.create_connection(("127.0.0.1", place.listen), timeout=EXIT_TIMEOUT_S) as client,
    ):
        client.sendall(f"GET {HELD} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("ascii"))
        if not held.entered.wait(ACCEPT_TIMEOUT_S):
            raise BenchError("The request that should be in flight never reached the application.")
        program.process.send_signal(signal.SIGTERM)
        threading.Timer(HELD_S, held.release.set).start()
        received = _read_answer(client)
        done = time.monotonic()
        client.close()
        if not received.endswith(SMALL_BODY):
            column.words[Figure.EXIT] = "cuts it off"
            return
        try:
            program.process.wait(timeout=EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise BenchError(f"Still there {EXIT_TIMEOUT_S:g} s after its last request.") from None
        column.add(Figure.EXIT, (time.monotonic() - done) * 1000)


def prestop_helper(contender: Contender, column: Column, setting: Setting) -> None:
    """CPU and memory of `drainproxy drain --prestop` against a running proxy."""
    directory = setting.directory / f"{contender.name}-prestop"
    with contender.started(
        core=setting.cores.proxy, upstream=setting.application.port, directory=directory
    ) as (_, place):
        # As a pod's hook names it: `python -m` loads twenty modules more, to find the same one.
        command = [str(Path(sys.executable).with_name("drainproxy")), "drain", "--prestop"]
        command += ["--control-socket", str(place.control_socket)]
        for _ in range(HELPER_RUNS):
            used = run_and_account(command)
            if used.status != 0:
                raise BenchError(f"`drainproxy drain --prestop` ended with {used.status}.")
            column.add(Figure.PRESTOP_CPU, used.cpu_ms)
            column.add(Figure.PRESTOP_RSS, used.peak_rss_mb)


def _read_head(connection: socket.socket) -> bytes:
    """One request head; empty at the end of the connection. Requests here have no body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = connection.recv(4096)
        if not part:
            return b""
        head += part
    return head


def _read_answer(client: socket.socket) -> bytes:
    """Everything up to the expected body or the end, whichever comes first."""
    received = b""
    try:
        while not received.endswith(SMALL_BODY) and (part := client.recv(4096)):
            received += part
    except OSError:
        return received
    return received if received.startswith(b"HTTP/1.1 200") else b""
