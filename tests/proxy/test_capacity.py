"""What a process may hold follows from its memory limit, its descriptors and its settings."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from drainproxy.proxy.limits.capacity import MIN_CONNECTIONS, derive, memory_limit, raise_descriptors
from drainproxy.proxy.settings import ProxySettings

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
V1_NO_LIMIT = "9223372036854771712"


@pytest.mark.parametrize(
    ("memory", "descriptors", "connections"),
    [
        (None, 1 << 20, 10_000),
        (64 * MIB, 1 << 20, 1638),
        (128 * MIB, 1 << 20, 8192),
        (1024 * MIB, 1 << 20, 10_000),
        (16 * MIB, 1 << 20, MIN_CONNECTIONS),
        (None, 1024, 512),
        (None, 20_000, 10_000),
        (None, 10_000, 9_488),
        (None, 48, 16),
    ],
)
def test_connections_are_bounded_by_the_scarcest(memory, descriptors, connections):
    """Ten thousand, unless memory or descriptors are fewer."""
    assert derive(ProxySettings(), memory, descriptors).max_connections == connections


def test_a_set_limit_wins_over_memory_and_not_over_descriptors():
    """Who sets it knows the memory better; descriptors are what they are."""
    assert derive(ProxySettings(max_connections=20), None, 1024).max_connections == 20
    assert derive(ProxySettings(max_connections=5000), 64 * MIB, 1 << 20).max_connections == 5000
    assert derive(ProxySettings(max_connections=5000), 64 * MIB, 1024).max_connections == 512


def tree(tmp_path: Path, own: str, limits: dict[str, str]) -> tuple[Path, Path]:
    """Make a /proc/self/cgroup and a cgroup mount."""
    (tmp_path / "cgroup").write_text(own)
    for path, limit in limits.items():
        place = tmp_path / "mount" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(limit + "\n")
    return tmp_path / "cgroup", tmp_path / "mount"


@pytest.mark.parametrize(
    ("own", "limits", "limit"),
    [
        pytest.param("0::/\n", {"memory.max": "134217728"}, 128 * MIB, id="v2 in a container"),
        pytest.param("0::/\n", {"memory.max": "max"}, None, id="v2 without a limit"),
        pytest.param("0::/\n", {}, None, id="v2 root"),
        pytest.param(
            "0::/pods/x\n",
            {"pods/x/memory.max": "max", "pods/memory.max": "1048576", "memory.max": "2097152"},
            MIB,
            id="v2, the limit is above",
        ),
        pytest.param(
            "0::/kubepods/outside\n", {"memory.max": "1048576"}, MIB, id="v2, the path is the host's"
        ),
        pytest.param(
            "5:cpu,cpuacct:/\n4:memory:/docker/x\n0::/\n",
            {"memory/docker/x/memory.limit_in_bytes": "1048576", "memory/memory.limit_in_bytes": V1_NO_LIMIT},
            MIB,
            id="v1",
        ),
        pytest.param(
            "4:memory:/docker/x\n", {"memory/memory.limit_in_bytes": "1048576"}, MIB, id="v1 in a container"
        ),
        pytest.param(
            "4:memory:/\n", {"memory/memory.limit_in_bytes": V1_NO_LIMIT}, None, id="v1 without a limit"
        ),
        pytest.param("4:hugetlb:/a\n", {"a/memory.max": "5"}, None, id="another controller"),
        pytest.param("", {}, None, id="no cgroups"),
    ],
)
def test_the_memory_limit_is_the_smallest_of_the_groups_it_is_in(tmp_path, own, limits, limit):
    """Both versions of cgroups, seen from inside a container and from outside."""
    assert memory_limit(*tree(tmp_path, own, limits)) == limit


def test_without_proc_there_is_no_limit(tmp_path):
    """Not every system has it."""
    assert memory_limit(tmp_path / "nothing", tmp_path) is None


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one():
    """Nobody is served with the 1024 that a shell gives where there could be a million."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        assert raise_descriptors() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
