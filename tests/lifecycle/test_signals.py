"""Signals of a real process: caught from the first instruction on, kept in order, bounded in a storm."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

EARLY = """
import asyncio, json, os, signal, sys
from drainproxy.lifecycle import signals

def send(names):
    for name in names.split():
        os.kill(os.getpid(), getattr(signal, name))

early, between, loop_kind = sys.argv[1:]
signals.catch_early()
send(early)

async def main():
    heard, loop = [], asyncio.get_running_loop()
    signals.deliver(loop, heard.append)
    at_once = list(heard)
    send(between)
    print("ready", flush=True)
    # Whoever started this says how many are to come, or nothing: then all of them have been sent.
    wanted = int(await loop.run_in_executor(None, sys.stdin.readline))
    async with asyncio.timeout(20):
        while len(heard) < wanted:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    print(json.dumps({"at_once": at_once, "heard": heard}), flush=True)

if loop_kind == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest) -> str:
    """Both loops that drainproxy runs on."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return request.param


class Child:
    """A process that catches early, and then runs a loop."""

    def __init__(self, loop_kind: str, early: str = "", between: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", EARLY, early, between, loop_kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    def ready(self) -> None:
        """Wait until the loop delivers."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def heard(self, wanted: int) -> dict[str, list[str]]:
        """Return what it has heard once that is `wanted` signals or more."""
        out, err = self._process.communicate(f"{wanted}\n", timeout=30)
        assert self._process.returncode == 0, err
        return json.loads(out.splitlines()[-1])


def test_signals_before_the_loop_runs_are_replayed_in_order(loop_kind):
    """PID 1 without a handler would ignore SIGTERM for its whole grace period."""
    with Child(loop_kind, early="SIGHUP SIGTERM SIGINT SIGINT") as child:
        heard = child.heard(4)
    assert heard["heard"] == ["SIGHUP", "SIGTERM", "SIGINT", "SIGINT"]


def test_replay_is_a_callback_of_the_loop_and_not_of_the_caller(loop_kind):
    """Whoever asks for delivery may finish what it is doing."""
    with Child(loop_kind, early="SIGTERM") as child:
        assert child.heard(1) == {"at_once": [], "heard": ["SIGTERM"]}


def test_what_was_kept_comes_before_what_comes_now(loop_kind):
    """A signal that arrives while the early ones are handed over does not overtake them."""
    with Child(loop_kind, early="SIGTERM SIGHUP", between="SIGINT") as child:
        assert child.heard(3)["heard"] == ["SIGTERM", "SIGHUP", "SIGINT"]


def test_a_storm_before_the_loop_runs_is_bounded_and_loses_no_kind(loop_kind):
    """A hundred reloads must not crowd out the one SIGTERM."""
    storm = " ".join(["SIGHUP"] * 100 + ["SIGTERM"] * 100 + ["SIGINT"] * 100)
    with Child(loop_kind, early=storm) as child:
        heard = child.heard(3)["heard"]
    assert len(heard) <= 16
    assert set(heard) == {"SIGHUP", "SIGTERM", "SIGINT"}
    assert heard.count("SIGINT") >= 2, "a second SIGINT means: at once"


def test_signals_from_outside_arrive_by_name(loop_kind):
    """The kubelet's way, to a loop that runs."""
    with Child(loop_kind) as child:
        child.ready()
        for number in (15, 1, 2):
            child.signal(number)
        assert sorted(child.heard(3)["heard"]) == ["SIGHUP", "SIGINT", "SIGTERM"]


def test_catching_early_imports_nothing_of_others():
    """It is installed before the imports that take a quarter of a second; so it must not do them itself."""
    script = """
import sys
from drainproxy.lifecycle import signals
signals.catch_early()
print(sorted({name.partition(".")[0] for name in sys.modules} - {*sys.stdlib_module_names, "__main__"}))
"""
    run = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, check=False, timeout=30
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "['drainproxy']"
