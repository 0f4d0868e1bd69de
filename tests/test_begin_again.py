"""`run` begins once more where the interpreter's own allocator would keep what clients have left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import INSTALLED, environment

RUN = ("run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--final-scrape-wait", "0s")
LISTENING = 2
"""The listener, and the admin listener."""


def undecided(**variables: str) -> dict[str, str]:
    """An environment in which nobody has chosen an allocator."""
    inherited = environment(**INSTALLED)
    inherited.pop("PYTHONMALLOC", None)
    return inherited | variables


@pytest.mark.parametrize(("chosen", "becomes"), [({}, "malloc"), ({"PYTHONMALLOC": "pymalloc"}, "pymalloc")])
def test_run_has_the_c_librarys_allocator_unless_told_otherwise(tmp_path, chosen, becomes):
    """An interpreter chooses it before it starts, so the same process starts one again, and only once."""
    command = [sys.executable, "-m", "drainproxy", *RUN, "--control-socket", f"{tmp_path}/c.sock"]
    with subprocess.Popen(command, env=undecided(**chosen), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        while sum(line["event"] == "listening" for line in lines) < LISTENING:
            lines.append(json.loads(process.stdout.readline()))
        of_it = Path(f"/proc/{process.pid}")
        variables = (of_it / "environ").read_bytes().split(b"\0")
        assert [each for each in variables if each.startswith(b"PYTHONMALLOC")] == [
            f"PYTHONMALLOC={becomes}".encode()
        ]
        words = (of_it / "cmdline").read_bytes().decode().split("\0")[:-1]
        assert words[1:] == command[1:]
        process.terminate()
        process.communicate()
        assert process.returncode == 0


def test_sigterm_while_it_begins_again_ends_it_as_any(tmp_path):
    """No handler outlasts the step: the kernel keeps what comes then for who comes after."""
    words = [*RUN, "--control-socket", f"{tmp_path}/c.sock"]
    code = f"""
import os, signal, sys
from drainproxy import __main__ as door
step = os.execve
def execve(*what):
    os.kill(os.getpid(), signal.SIGTERM)
    step(*what)
os.execve = execve
sys.argv = ["drainproxy", *{words!r}]
sys.orig_argv = [sys.executable, "-m", "drainproxy", *{words!r}]
door.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=undecided(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()][-1] == "exit"


@pytest.mark.parametrize("flags", [("-X", "dev"), ("-E",)], ids=["dev mode", "no environment"])
def test_an_interpreter_that_has_no_choice_left_goes_on(flags):
    """One looks for defects with an allocator of its own, the other would not hear of another, for ever."""
    ask = "from drainproxy import __main__ as door; print(door._can_choose_allocator())"
    for each, said in ((flags, "False\n"), ((), "True\n")):
        done = subprocess.run(
            [sys.executable, *each, "-c", ask], env=undecided(), capture_output=True, text=True, check=True
        )
        assert done.stdout == said


def test_where_it_cannot_begin_again_it_goes_on_as_it_is():
    """An interpreter that is gone, or that may not be executed."""
    code = """
import sys
from drainproxy import __main__ as door
sys.executable = "/nowhere/python"
door._begin_again()
print("went on")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=undecided(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "went on\n"
