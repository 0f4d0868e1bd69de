"""`python -m bench.http2`: what a request costs over HTTP/2, beside nghttpx and Envoy.

h2load with 16 connections of 8 streams; nghttpd answers 40 bytes. The figure is CPU per request of the proxy
alone, a ratio is taken within one round, and every round starts every contender afresh.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench.application import SMALL, SMALL_BODY
from bench.measure import cpu_s
from bench.processes import BenchError, find_program, free_port, running, two_cores
from bench.proxies import COMPILED, CONTENDERS, OURS, configured, envoy_binary
from bench.table import page

if TYPE_CHECKING:
    from bench.processes import Cores, Program
    from bench.proxies import Place

REQUESTS, WARM_UP = 60_000, 5_000
MEASURE = "nghttpx"
READING = "drainproxy, h2_inspect"
BARS = {
    OURS: {"nghttpx": 1.0, "envoy": 0.25},
    COMPILED: {"nghttpx": 0.8, "envoy": 0.25},
    READING: {"envoy": 0.5},
}
"""A cost must be at most this share of theirs."""
START_S = 10.0
_SUCCEEDED = re.compile(r"(\d+) succeeded, (\d+) failed")


def main() -> int:
    """Measure, print, and return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.http2", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 51), metavar="N")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    options = parser.parse_args()
    if COMMANDS[COMPILED].version() is None:
        del COMMANDS[COMPILED]
        print(f"nothing compiled is installed ({_BY_NAME[COMPILED].install})", file=sys.stderr)
    costs: dict[str, list[float]] = {name: [] for name in COMMANDS}
    try:
        cores = two_cores()
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            for number in range(options.rounds):
                for name in COMMANDS:
                    costs[name].append(
                        _cost(name, cores, Path(directory) / f"{number}-{list(COMMANDS).index(name)}")
                    )
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    lines, missed = _table(costs)
    print("\n".join(lines))
    if options.markdown:
        text = page("What a request costs over HTTP/2", "bench.http2", lines)
        options.markdown.write_text(text, encoding="utf-8")
    for sentence in missed:
        print(sentence, file=sys.stderr)
    return 1 if missed else 0


def _table(costs: dict[str, list[float]]) -> tuple[list[str], list[str]]:
    names = [name for name in costs if name not in BARS]
    lines = [
        "| proxy | CPU per request | " + " | ".join(f"share of {name}'s | bar" for name in names) + " |",
        "| --- | ---: |" + " ---: | --- |" * len(names),
    ]
    missed = []
    for name, samples in costs.items():
        cells = [name, f"{statistics.median(samples):.1f} µs"]
        for other in names:
            bar = BARS.get(name, {}).get(other)
            share = statistics.median(
                ours / theirs for ours, theirs in zip(samples, costs[other], strict=True)
            )
            cells += [f"{share:.2f}" if name in BARS else "", "" if bar is None else f"≤ {bar:g}"]
            if bar is not None and share > bar:
                missed.append(f"{name}: {share:.2f} of what a request costs {other}; the bar is {bar:g}.")
        lines.append(f"| {' | '.join(cells)} |")
    return lines, missed


def _cost(name: str, cores: Cores, directory: Path) -> float:
    """Return the CPU microseconds of one request through a contender that is started for it."""
    directory.mkdir()
    files = directory / "files"
    files.mkdir()
    (files / SMALL.strip("/")).write_bytes(SMALL_BODY)
    upstream = free_port()
    served = [_path("nghttpd"), "-n1", "--no-tls", "-a", "127.0.0.1", "-d", str(files), str(upstream)]
    with ExitStack() as stack:
        stack.enter_context(running(served, core=cores.load, directory=directory))
        contender = COMMANDS[name]
        proxy, place = stack.enter_context(
            contender.starting(core=cores.proxy, upstream=upstream, directory=directory / "proxy")
        )
        _wait(place.listen, proxy, cores)
        _load(place.listen, WARM_UP, cores)
        before = cpu_s(proxy.pid)
        _load(place.listen, REQUESTS, cores)
        return (cpu_s(proxy.pid) - before) * 1e6 / REQUESTS


def _wait(port: int, proxy: Program, cores: Cores) -> None:
    give_up = time.monotonic() + START_S
    while True:
        try:
            return _load(port, 1, cores)
        except BenchError:
            if time.monotonic() > give_up:
                raise BenchError(f"a proxy does not answer: {proxy.last_words()}") from None
            time.sleep(0.1)


def _load(port: int, requests: int, cores: Cores) -> None:
    connections = min(16, requests)
    command = [_path("h2load"), f"-c{connections}", "-m8", f"-n{requests}", f"http://127.0.0.1:{port}{SMALL}"]
    said = subprocess.run(
        ["taskset", "-c", str(cores.load), *command], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    found = _SUCCEEDED.search(said)
    if found is None or int(found[1]) != requests or f"status codes: {requests} 2xx" not in said:
        raise BenchError(f"h2load: not every answer was a 200: {said[-400:]}")


def _path(name: str) -> str:
    found = find_program(name)
    if found is None:
        raise BenchError(f"{name} is not installed (Debian: nghttp2-client, nghttp2-server, nghttp2-proxy).")
    return found


def _nghttpx(place: Place) -> list[str]:
    frontend, backend = f"127.0.0.1,{place.listen};no-tls", f"127.0.0.1,{place.upstream};;proto=h2"
    quiet = ["--accesslog-file=/dev/null", "--errorlog-file=/dev/null"]
    return [_path("nghttpx"), "-n1", "-f", frontend, "-b", backend, *quiet]


def _envoy(place: Place) -> list[str]:
    config = configured("envoy-http2.yaml", place)
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    return [envoy_binary() or "envoy", "-c", str(config), *options]


def _reading(place: Place) -> list[str]:
    return [*_BY_NAME[OURS].command(place), "--h2-inspect", "true"]


_BY_NAME = {contender.name: contender for contender in CONTENDERS}
COMMANDS = {
    OURS: _BY_NAME[OURS].like(OURS, _BY_NAME[OURS].command),
    COMPILED: _BY_NAME[COMPILED].like(COMPILED, _BY_NAME[COMPILED].command),
    READING: _BY_NAME[OURS].like(
        READING, lambda place: [*_BY_NAME[OURS].command(place), "--h2-inspect", "true"]
    ),
    MEASURE: _BY_NAME[OURS].like(MEASURE, _nghttpx),
    "envoy": _BY_NAME["envoy"].like("envoy", _envoy),
}


if __name__ == "__main__":
    sys.exit(main())
