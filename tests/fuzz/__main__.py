"""`python -m tests.fuzz [DOOR ...] [--seconds N]`: throw bytes at every door until the time is over.

The door `live` is a whole data plane over real sockets, where clients, application and drain do anything.

What is installed is played, compiled or not, and not the sources that lie where this was started. Starts from
the project's own conformance cases. With atheris the bytes follow what the sources do with them; without it,
and compiled, hypothesis makes them. Exit code 1 if an invariant broke: the bytes that did it are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import random
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

if __name__ == "__main__":
    del sys.path[0]

from drainproxy import flavour

if __name__ == "__main__":
    flavour.choose()

from drainproxy.eventloop import Loop
from tests.fuzz import live
from tests.fuzz.doors import DOORS, OF_SOURCES

COMPILED = flavour.current() == "compiled"
WALKS = "live"
ALL = [*(door for door in DOORS if not (COMPILED and door in OF_SOURCES)), WALKS]


def main() -> int:
    """Share the time among the doors; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=f"of {', '.join(ALL)} (default: all)")
    parser.add_argument("--seconds", type=int, default=60, help="for all doors together (default: 60)")
    args = parser.parse_args()
    doors = args.doors or ALL
    if unknown := set(doors) - set(ALL):
        parser.error(f"no such door: {', '.join(sorted(unknown))}")
    each_s = max(1, args.seconds // len(doors))
    run = with_atheris if importlib.util.find_spec("atheris") and not COMPILED else with_hypothesis
    failed = [door for door in doors if not (with_walks(each_s) if door == WALKS else run(door, each_s))]
    told = f"{len(failed)} broken{': ' if failed else ''}{', '.join(failed)}"
    print(f"{flavour.current()}: {len(doors)} doors, {told}")
    return 1 if failed else 0


def with_atheris(door: str, seconds: int) -> bool:
    """Run libFuzzer in a process of its own, which it ends as it likes; tell whether nothing broke."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        seeds = Path(name, "seeds")
        seeds.mkdir()
        for number, seed in enumerate(DOORS[door].seeds()):
            (seeds / str(number)).write_bytes(seed)
        argv = [sys.executable, "-m", "tests.fuzz.guided", door, str(seeds)]
        argv += [f"-max_total_time={seconds}", "-max_len=2000", "-timeout=10", "-rss_limit_mb=2048"]
        argv += ["-verbosity=0", f"-artifact_prefix={name}/", "-print_final_stats=1"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 120, check=False)
        executed = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        print(f"{door}: atheris, {executed[0].split()[-1] if executed else '?'} inputs in {seconds} s")
        if done.returncode == 0:
            return True
        print(done.stdout[-4000:], done.stderr[-4000:])
        for artifact in sorted(Path(name).glob("*-*")):
            print(f"{artifact.name}: {artifact.read_bytes()!r}")
        return False


def with_hypothesis(door: str, seconds: int) -> bool:
    """Draw examples until the time is over."""
    end = time.monotonic() + seconds
    rounds = 0
    try:
        while time.monotonic() < end:
            DOORS[door].explore(500)
            rounds += 1
    except AssertionError as broken:
        print(f"{door}: {broken}")
        return False
    print(f"{door}: hypothesis, {500 * rounds} inputs")
    return True


def with_walks(seconds: int) -> bool:
    """Take walks through a live data plane until the time is over, each with a new seed, on both loops."""
    end = time.monotonic() + seconds
    seed = first = random.randrange(1 << 32)
    while time.monotonic() < end:
        try:
            with asyncio.Runner(loop_factory=Loop if seed % 2 else None) as runner:
                runner.run(live.walk(seed))
        except Exception:
            traceback.print_exc()
            print(f"{WALKS}: seed {seed}")
            return False
        seed += 1
    print(f"{WALKS}: {seed - first} walks in {seconds} s")
    return True


if __name__ == "__main__":
    sys.exit(main())
