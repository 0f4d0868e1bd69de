"""The container engines of this machine, and the image that `make image` has built."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.network import Namespace

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = Path(__file__).with_name("containers.conf")
"""What podman needs where no systemd runs, and cgroups may be of version 1."""

IMAGE = os.environ.get("IMAGE", "")
BASE = "localhost/drainproxy-base:debian"


def run(*command: str | Path, timeout: int = 60, **how: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, **how)


def engine(name: str) -> str:
    """Return an engine's path; without `make image-test`, or without the engine, skip."""
    if not IMAGE:
        pytest.skip("make image-test runs it, with an image that it has built")
    found = shutil.which(name)
    if found is None or os.geteuid() != 0:
        pytest.fail(f"make image-test needs {name}, and root")
    return found


def podman(
    *arguments: str | Path, timeout: int = 60, check: bool = True, network: Namespace | None = None
) -> str:
    """Run podman, with its bridge in a namespace if one is given; return what it wrote to standard output."""
    environment = {**os.environ, "CONTAINERS_CONF": str(CONFIGURATION)}
    enter = ("nsenter", f"--net=/proc/{network.pid}/ns/net") if network else ()
    done = run(*enter, engine("podman"), *arguments, timeout=timeout, env=environment)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


def build(name: str, *, root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run image/build as `make image` does, by buildah and on the base that is here."""
    engine("buildah")
    settings = {"ENGINE": "buildah", "BASE": BASE, **environment}
    return run(root / "image" / "build", name, timeout=500, env={**os.environ, **settings})
