"""A memory limit for one process, where this machine lets a test set one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MOUNT = Path("/sys/fs/cgroup")
FILES = {MOUNT / "memory": "memory.limit_in_bytes", MOUNT: "memory.max"}
"""Where groups are made, and what bounds one, in version 1 and 2 (cgroups(7))."""


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path | None]:
    """Make a group with a memory limit; None where that is not permitted. It must be empty at the end."""
    for root, name in FILES.items():
        group = root / f"drainproxy-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(limit_bytes))
        except OSError:
            group.rmdir()
            continue
        try:
            yield group
        finally:
            group.rmdir()
        return
    yield None
