"""What the kernel says about a process and its children: CPU time, memory, what a finished command used.

Reads /proc and nothing else; whoever asks decides when the run starts and ends.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
COMMAND_TIMEOUT_S = 20.0


def cpu_s(root: int) -> float:
    """CPU seconds, user and system, of `root`, its living descendants and the children it has reaped."""
    ticks = 0
    for pid in tree(root):
        fields = _stat(pid)
        if fields is not None:
            # Fields 14 to 17 of proc(5): utime, stime, cutime, cstime; two are cut off with the name.
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS_PER_S


def ran_s(root: int) -> float:
    """CPU seconds of living threads, exact where `cpu_s` counts in ticks (proc(5), schedstat)."""
    return sum(
        int(stat.read_text(encoding="ascii").split()[0]) / 1e9
        for pid in tree(root)
        for stat in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


def rss_mb(root: int) -> float:
    """Resident memory now, summed over the processes, in MB of 10^6 bytes. Shared pages count in each."""
    return _status_mb(root, "VmRSS:")


def peak_rss_mb(root: int) -> float:
    """The most resident memory each process ever had, summed."""
    return _status_mb(root, "VmHWM:")


def private_mb(root: int) -> float:
    """Memory that no other process shares now (USS), summed: what one more of it would cost."""
    return _rollup_mb(root, "Private_Clean:", "Private_Dirty:")


def dirty_mb(root: int) -> float:
    """The part of it that the kernel cannot read again from a file."""
    return _rollup_mb(root, "Private_Dirty:")


def switches(root: int) -> int:
    """How often the threads of the processes have gone to sleep (proc(5), voluntary_ctxt_switches)."""
    return sum(
        int(line.split()[1])
        for pid in tree(root)
        for status in Path(f"/proc/{pid}/task").glob("*/status")
        for line in status.read_text(encoding="utf-8").splitlines()
        if line.startswith("voluntary_ctxt_switches:")
    )


def tree(root: int) -> list[int]:
    """`root` and its living descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


@dataclass(frozen=True, slots=True)
class Used:
    """What a finished command used."""

    status: int
    cpu_ms: float
    peak_rss_mb: float


# A child's ru_maxrss starts at the size of the process that started it (the kernel counts the image
# before exec). This stands between: an interpreter without site is smaller than anything measured here.
_SMALL_PARENT = """
import os, sys
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(pid, 0)
cpu_s = used.ru_utime + used.ru_stime
print('\\n[%d, %f, %d]' % (os.waitstatus_to_exitcode(status), cpu_s, used.ru_maxrss))
"""


def run_and_account(command: list[str]) -> Used:
    """Run a command to its end. `command[0]` is a path."""
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _SMALL_PARENT, *command],
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=True,
    )
    status, cpu, peak_kib = json.loads(ended.stdout.splitlines()[-1])
    return Used(status=status, cpu_ms=cpu * 1000, peak_rss_mb=peak_kib * 1024 / 1e6)


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on; None when the process is gone."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return line.rpartition(")")[2].split()


def _status_mb(root: int, field: str) -> float:
    return _sum_mb(root, "status", field)


def _rollup_mb(root: int, *fields: str) -> float:
    return _sum_mb(root, "smaps_rollup", *fields)


def _sum_mb(root: int, file: str, *fields: str) -> float:
    kib = 0
    for pid in tree(root):
        try:
            lines = Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith(fields))
    return kib * 1024 / 1e6


def cpu_model() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return " ".join(line.partition(":")[2].split())
    return platform.machine()
