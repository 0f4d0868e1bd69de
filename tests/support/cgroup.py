"""A limit of memory or CPU for one process, where this machine lets a test set one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
"""In which a quota is used up; what the kubelet sets."""


def memory_group(limit_bytes: int) -> contextlib.AbstractContextManager[Path | None]:
    """Make a group with a memory limit; None where that is not permitted. It must be empty at the end."""
    limit = str(limit_bytes)
    return _group({"memory": {"memory.limit_in_bytes": limit}, "": {"memory.max": limit}})


def cpu_group(millicores: int) -> contextlib.AbstractContextManager[Path | None]:
    """Make a group that runs for so much of each period and then stands still; the same as above."""
    quota = str(PERIOD_US * millicores // 1000)
    old = {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": quota}
    return _group({"cpu": old, "": {"cpu.max": f"{quota} {PERIOD_US}"}})


@contextlib.contextmanager
def _group(ways: dict[str, dict[str, str]]) -> Iterator[Path | None]:
    """`ways`: where groups are made in version 1 and 2 (cgroups(7)), and what bounds one."""
    for place, files in ways.items():
        group = MOUNT / place / f"drainproxy-test-{os.getpid()}"
        try:
            if group.exists():
                # Of a run that was killed; who had that number is gone.
                group.rmdir()
            group.mkdir()
            if not (group / "cgroup.procs").exists():
                # Nothing is mounted here: files in it would bound nobody.
                group.rmdir()
                continue
        except OSError:
            continue
        try:
            for name, text in files.items():
                (group / name).write_text(text)
        except OSError:
            group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    yield None
