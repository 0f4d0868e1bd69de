"""`python -m bench.uploads`: what a large upload costs, and how much longer it takes than without a proxy.

One upload at a time. The proxy has a core to itself, client and application share the other, with a proxy and
without. Every round starts every contender afresh; a ratio is taken within one round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import ran_s
from bench.processes import BenchError, find_program, free_port, running, two_cores
from bench.proxies import COMPILED, CONTENDERS, MEASURE, OURS, configured
from bench.table import page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.processes import Cores, Program
    from bench.proxies import Contender, Place

MIB = 1024 * 1024
SIZE_MIB, ROUNDS, WARM_UP_MIB = 512, 3, 16
START_S, UPLOAD_S = 10.0, 150.0
HERE = Path(__file__).parent
APPLICATION, CLIENT = HERE / "upload_application.py", HERE / "upload_client.py"
NODE = """
require("http").createServer((request, response) => {
  let came = 0;
  request.on("data", (piece) => { came += piece.length; });
  request.on("end", () => response.end(String(came)));
}).listen(Number(process.argv[1]), "127.0.0.1");
"""
BARE = "bare"
MAX_SHARE, MAX_TIMES = 1.3, 1.25
"""Of nginx's CPU time, for every row; of the time without a proxy, for real clients and applications: a sink
takes more than two gigabytes a second, and any proxy that reads and writes on one core takes longer."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A way to send a body, and who takes it."""

    title: str
    application: str
    client: str
    chunk: int = 64 * 1024

    @property
    def real(self) -> bool:
        """Nobody in it was written for this bench."""
        return self.application != "sink"


UPLOADS = (
    Upload("a length, 64 KiB at a time, to a sink", "sink", "length"),
    Upload("chunks of 64 KiB, to a sink", "sink", "chunked"),
    Upload("chunks of 16 KiB, to a sink", "sink", "chunked", 16 * 1024),
    Upload("chunks of 8 KiB, to a sink", "sink", "chunked", 8 * 1024),
    Upload("`curl -T -`, to aiohttp", "aiohttp", "curl"),
    Upload("aiohttp in pieces of 64 KiB, to aiohttp", "aiohttp", "aiohttp"),
    Upload("`curl -T -`, to Node.js", "node", "curl"),
)


@dataclass(slots=True)
class Samples:
    """What one contender took for one kind of upload, round by round."""

    seconds: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    """A MiB, of the proxy alone."""


Results = dict[Upload, dict[str, Samples]]


def main() -> int:
    """Measure, print, and return 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.uploads", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, choices=range(1, 51), metavar="N")
    parser.add_argument("--mib", type=int, default=SIZE_MIB, choices=range(16, 4097), metavar="N")
    parser.add_argument("--no-bars", dest="bars", action="store_false", help="print only, judge nothing")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    options = parser.parse_args()
    contenders = [one for one in CONTENDERS if one.name in {OURS, COMPILED, MEASURE}]
    for one in [one for one in contenders if one.version() is None]:
        contenders.remove(one)
        print(f"{one.name} is not here ({one.install})", file=sys.stderr)
    results: Results = {}
    others = os.getloadavg()[0]
    try:
        cores = two_cores()
        for number in range(options.rounds):
            for application in dict.fromkeys(upload.application for upload in UPLOADS):
                with tempfile.TemporaryDirectory(prefix="bench-") as directory:
                    _round(application, contenders, cores, Path(directory), options.mib, results)
            print(f"round {number + 1} of {options.rounds} is done", file=sys.stderr)
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    lines, missed = _table(results)
    print("\n".join(lines))
    if options.markdown:
        load = f"- Load of the machine before it: {others:.1f}"
        text = page(f"What an upload of {options.mib} MiB costs", "bench.uploads", lines, load)
        options.markdown.write_text(text, encoding="utf-8")
    for sentence in missed if options.bars else []:
        print(sentence, file=sys.stderr)
    return 1 if missed and options.bars else 0


def _round(
    application: str, contenders: list[Contender], cores: Cores, directory: Path, mib: int, results: Results
) -> None:
    """Add a sample of every upload to one application: bare, and through everybody."""
    command = _application(application, upstream := free_port())
    if command is None:
        return
    with running(command, core=cores.load, directory=directory) as program:
        uploads = [upload for upload in UPLOADS if upload.application == application and _has(upload.client)]
        for contender in [None, *contenders]:
            with _proxy(contender, cores, upstream, directory) as (proxy, port):
                _wait(port, proxy or program, cores)
                for upload in uploads:
                    told = results.setdefault(upload, {}).setdefault(
                        BARE if contender is None else contender.name, Samples()
                    )
                    _send(upload, port, WARM_UP_MIB, cores)
                    before = 0.0 if proxy is None else ran_s(proxy.pid)
                    told.seconds.append(_send(upload, port, mib, cores))
                    if proxy is not None:
                        told.cpu_us.append((ran_s(proxy.pid) - before) * 1e6 / mib)


def _application(kind: str, port: int) -> list[str] | None:
    if kind != "node":
        return [sys.executable, str(APPLICATION), kind, str(port)]
    node = find_program("node")
    return None if node is None else [node, "-e", NODE, str(port)]


def _has(client: str) -> bool:
    return client != "curl" or find_program("curl") is not None


@contextmanager
def _proxy(
    contender: Contender | None, cores: Cores, upstream: int, directory: Path
) -> Iterator[tuple[Program | None, int]]:
    """Run a contender, if it is one; yield it and where uploads go to."""
    if contender is None:
        yield None, upstream
        return
    command = contender.command if contender.asks_readyz else _unbuffered
    one = contender.like(contender.name, command, asks_readyz=contender.asks_readyz)
    with one.starting(core=cores.proxy, upstream=upstream, directory=directory / contender.name) as (
        proxy,
        place,
    ):
        if contender.asks_readyz:
            contender.wait_ready(proxy, place)
        yield proxy, place.listen


def _unbuffered(place: Place) -> list[str]:
    """nginx as whoever takes large uploads sets it: passed on as they come, of any size."""
    command = _BY_NAME[MEASURE].command(place)
    config = configured("nginx.conf", place)
    text = config.read_text(encoding="utf-8")
    passing = "proxy_request_buffering off;\n      client_max_body_size 0;\n      proxy_pass "
    config.write_text(text.replace("proxy_pass ", passing, 1), encoding="utf-8")
    return command


def _wait(port: int, program: Program, cores: Cores) -> None:
    give_up = time.monotonic() + START_S
    while True:
        try:
            _send(UPLOADS[0], port, 1, cores)
        except BenchError:
            if time.monotonic() > give_up:
                raise BenchError(f"no upload is answered: {program.last_words()}") from None
            time.sleep(0.1)
        else:
            return


def _send(upload: Upload, port: int, mib: int, cores: Cores) -> float:
    """Return the seconds that one upload took."""
    pinned = ["taskset", "-c", str(cores.load)]
    if upload.client == "curl":
        return _curl(pinned, port, mib)
    words = [upload.client, str(port), str(mib * MIB), str(upload.chunk)]
    ended = subprocess.run(
        [*pinned, sys.executable, str(CLIENT), *words],
        capture_output=True,
        text=True,
        timeout=UPLOAD_S,
        check=False,
    )
    if ended.returncode:
        raise BenchError(f"an upload has failed: {ended.stderr[-400:]}")
    return float(ended.stdout)


def _curl(pinned: list[str], port: int, mib: int) -> float:
    """The same by curl, of what comes on its standard input."""
    with tempfile.TemporaryFile() as body:
        body.truncate(mib * MIB)
        ended = subprocess.run(
            [
                *(*pinned, find_program("curl") or "curl", "--silent", "--show-error", "--fail"),
                *("--upload-file", "-", "--header", "Expect:", "--write-out", "\n%{time_total}"),
                f"http://127.0.0.1:{port}/upload",
            ],
            stdin=body,
            capture_output=True,
            text=True,
            timeout=UPLOAD_S,
            check=False,
        )
    told, _, took = ended.stdout.rpartition("\n")
    if ended.returncode or told != str(mib * MIB):
        raise BenchError(f"curl: {told[-200:]} bytes came; {ended.stderr[-400:]}")
    return float(took)


def _table(results: Results) -> tuple[list[str], list[str]]:
    """Return the table, and a sentence for each bar that is missed."""
    names = list(next(iter(results.values())))
    proxies = [name for name in names if name != BARE]
    lines = [
        "| upload | bare | "
        + " | ".join(f"{name}, times bare | CPU a MiB | share of nginx's" for name in proxies)
        + " |",
        "| --- | ---: |" + " ---: | ---: | ---: |" * len(proxies),
    ]
    missed = []
    for upload, told in results.items():
        cells = [upload.title, f"{statistics.median(told[BARE].seconds):.2f} s"]
        for name in proxies:
            times = _ratio(told[name].seconds, told[BARE].seconds)
            share = _ratio(told[name].cpu_us, told[MEASURE].cpu_us)
            cells += [f"{times:.2f}", f"{statistics.median(told[name].cpu_us):.0f} µs", f"{share:.2f}"]
            if name == MEASURE:
                continue
            if share > MAX_SHARE:
                missed.append(
                    f"{upload.title}: {name} takes {share:.2f} of nginx's CPU; the bar is {MAX_SHARE}."
                )
            if upload.real and times > MAX_TIMES:
                missed.append(
                    f"{upload.title}: {name} takes {times:.2f} times as long; the bar is {MAX_TIMES}."
                )
        lines.append(f"| {' | '.join(cells)} |")
    return lines, missed


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


_BY_NAME = {contender.name: contender for contender in CONTENDERS}


if __name__ == "__main__":
    sys.exit(main())
