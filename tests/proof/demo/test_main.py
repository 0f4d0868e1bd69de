"""The whole demo: it fails a proxy that loses, one that doubles, one that does not start; and ours not."""

import asyncio
import io
import json
import signal
import sys
from pathlib import Path

import pytest
from rich.console import Console

from drainproxy.proof.demo.lane import WAYS
from drainproxy.proof.demo.main import EXIT_LOST, EXIT_UNMEASURED, Plan, perform
from tests.proof.demo import losing_proxy

ONLY_DRAINPROXY = tuple(way for way in WAYS if way.sidecar)
LOSING = (sys.executable, str(Path(losing_proxy.__file__)))


async def played(plan: Plan, json_file: Path | None = None) -> tuple[int, str]:
    words = io.StringIO()
    code = await perform(plan, Console(file=words, width=80, highlight=False), json_file=json_file)
    return code, words.getvalue()


@pytest.mark.slow
async def test_a_proxy_that_loses_is_reported(tmp_path):
    """Refused and cut requests: exit 1, the sum in words, each one in the file."""
    plan = Plan(lags_s=(0.5,), ways=ONLY_DRAINPROXY, proxy=(*LOSING, "losing-connections"))
    code, words = await played(plan, tmp_path / "result.json")
    assert code == EXIT_LOST
    assert "drainproxy failed its own proof" in words
    document = json.loads((tmp_path / "result.json").read_text())
    kinds = {loss["kind"] for loss in document["runs"][0]["lanes"][0]["load"]["losses"]}
    assert "refused" in kinds  # the closed listener
    assert kinds & {"reset", "truncated"}  # the cut connections
    assert any("lost" in fault for fault in document["faults"])


@pytest.mark.slow
async def test_a_proxy_that_sends_orders_twice_is_reported():
    """Nothing need be lost for it: a duplicated order fails the demo."""
    plan = Plan(lags_s=(0.5,), ways=ONLY_DRAINPROXY, proxy=(*LOSING, "losing-posts"))
    code, words = await played(plan)
    assert code == EXIT_LOST
    assert "duplicated" in words


async def test_a_proxy_that_does_not_start_is_no_measurement():
    """No number is made up: exit 70 and its last words."""
    plan = Plan(lags_s=(0.5,), ways=ONLY_DRAINPROXY, proxy=(sys.executable, "-c", "exit('no')"))
    code, words = await played(plan)
    assert code == EXIT_UNMEASURED
    assert "could not be measured: drainproxy" in words
    assert "exit code 1" in words


async def test_a_file_that_cannot_be_written_is_said_before_anything_is_played(tmp_path):
    """A minute of demo is not thrown away, and no traceback's exit code is taken for a loss."""
    words = ("demo", "--quick", "--json", str(tmp_path / "none" / "result.json"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drainproxy", *words), stderr=asyncio.subprocess.PIPE
    )
    said = (await process.communicate())[1].decode()
    assert process.returncode == 64
    assert "No such file or directory" in said


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def children_of(pid: int) -> set[int]:
    return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_no_process_outlives_an_interrupted_demo(number):
    """Ctrl-C and SIGTERM in the middle: the demo says so and takes its children along."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drainproxy", "demo", "--quick"), stdout=asyncio.subprocess.PIPE
    )
    for _ in WAYS:
        while b" ready" not in await process.stdout.readline():
            pass
    born = children_of(process.pid)
    process.send_signal(number)
    rest = await process.stdout.read()
    await process.wait()
    assert len(born) == 10
    assert b"every process of the demo is gone" in rest
    assert alive(born) == set()


@pytest.mark.slow
async def test_drainproxy_passes_its_own_quick_demo():
    """The promise itself: nothing lost, nothing doubled, everything measured."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drainproxy", "demo", "--quick"), stdout=asyncio.subprocess.PIPE
    )
    words = (await process.communicate())[0].decode()
    assert process.returncode == 0, words
    assert "drainproxy lost none of" in words
    long_lived = [line.split() for line in words.splitlines() if " x 1" in line]
    assert ["drainproxy", "4", "x", "1001", "4", "0"] in long_lived
    assert all(line[-4:-2] == ["x", "1006"] for line in long_lived if line[0] == "bare"), long_lived
