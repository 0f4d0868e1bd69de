"""Start a program on a core; end it and its children by their process ids, and signal nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_TIMEOUT_S = 5.0


class BenchError(Exception):
    """A measurement that must not become a figure. The text is the sentence the reader gets."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core carries the proxy, and which the load, the application and this program."""

    proxy: int
    load: int


def two_cores() -> Cores:
    """The first two cores this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchError("The bench needs two cores: one for the proxy, one for load and application.")
    return Cores(proxy=allowed[0], load=allowed[1])


@dataclass(frozen=True, slots=True)
class Program:
    """A running program and where its output goes."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """The process id of the program itself: taskset replaces itself by it."""
        return self.process.pid

    def last_words(self) -> str:
        """The end of its log, for an error that has to explain itself."""
        return self.log.read_text(errors="replace")[-600:].strip()


@contextmanager
def running(
    command: list[str], *, core: int, directory: Path, env: dict[str, str] | None = None
) -> Iterator[Program]:
    """Run `command` pinned to `core` in `directory`; on leaving, nothing of it is left."""
    taskset = shutil.which("taskset")
    if taskset is None:
        raise BenchError("taskset is not installed (Debian: util-linux).")
    log = directory / "output.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [taskset, "-c", str(core), *command],
            cwd=directory,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Program(process, log)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and after a while SIGKILL for the process and every child it had."""
    if process.poll() is not None:
        return
    family = tree(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(timeout=STOP_TIMEOUT_S)


def free_port() -> int:
    """A loopback port nobody listens on now, for programs that cannot say which port they chose."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def find_program(name: str) -> str | None:
    """Where a program is: beside this interpreter first (wheels put it there), then PATH, then /usr/sbin."""
    beside = Path(sys.executable).parent
    return shutil.which(name, path=f"{beside}:{os.environ.get('PATH', os.defpath)}:/usr/sbin")


def nginx_user() -> str:
    """The directive that keeps an nginx started by root able to read its temporary directory."""
    return "user root;" if os.geteuid() == 0 else ""
