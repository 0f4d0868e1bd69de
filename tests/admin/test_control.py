"""The control socket: who may reach it, what it does, and life without it."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from drainproxy import hook
from drainproxy.lifecycle.machine import Phase
from drainproxy.lifecycle.report import Cause
from tests.admin.premises import Premises


async def test_only_this_user_may_reach_it(premises):
    """Directory 0700, socket 0600, whatever the umask."""
    assert stat.S_IMODE(premises.control_path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(premises.control_path.stat().st_mode) == 0o600
    assert stat.S_ISSOCK(premises.control_path.stat().st_mode)


async def test_the_umask_is_left_as_it_was(tmp_path):
    """The termination log is written later by the same process."""
    before = os.umask(0o022)
    try:
        premises = Premises(tmp_path)
        await premises.open()
        assert os.umask(0o022) == 0o022
        await premises.close()
    finally:
        os.umask(before)


async def test_drain_by_hand(premises):
    """202: it begins, and can be taken back."""
    answer = await premises.ask("POST /drain", control=True)
    assert (answer.status, answer.text) == (202, "propagating, waits for min, without the cluster's word\n")
    drain = premises.controller.drain
    assert (drain.cause, drain.final) == (Cause.MANUAL, False)
    answer = await premises.ask("POST /undrain", control=True)
    assert (answer.status, answer.text) == (200, "ready\n")
    assert premises.controller.published.phase is Phase.READY


async def test_drain_by_the_pods_own_hook_is_final(premises):
    """The pod ends: taking it back would leave it serving until SIGKILL."""
    assert (await premises.ask("POST /drain?prestop=1", control=True)).status == 202
    drain = premises.controller.drain
    assert (drain.cause, drain.final) == (Cause.UNKNOWN, True)
    answer = await premises.ask("POST /undrain", control=True)
    assert (answer.status, answer.text) == (409, "the pod is terminating\n")


async def test_drain_twice_is_one_drain(premises):
    """And the second may be the pod's hook, after a person's."""
    await premises.ask("POST /drain", control=True)
    began = premises.controller.drain.started
    assert (await premises.ask("POST /drain?prestop=1", control=True)).status == 202
    assert premises.controller.drain.started == began
    assert (await premises.ask("POST /undrain", control=True)).status == 409


async def test_undrain_is_refused_with_a_reason_when_there_is_nothing_to_take_back(premises):
    """Nobody drains."""
    answer = await premises.ask("POST /undrain", control=True)
    assert (answer.status, answer.text) == (409, "not draining\n")


async def test_a_drain_by_hand_that_is_over_can_be_taken_back(premises):
    """The pod would stay without callers for good."""
    await premises.ask("POST /drain", control=True)
    premises.finish()
    shown = (await premises.ask("GET /status", control=True)).json
    assert (shown["phase"], shown["waiting_for"]) == ("drained", "SIGTERM, or undrain")
    answer = await premises.ask("POST /undrain", control=True)
    assert (answer.status, answer.text) == (200, "ready\n")
    shown = (await premises.ask("GET /status", control=True)).json
    assert (shown["phase"], shown["drain"], shown["ready"]) == ("ready", None, True)


async def test_status_and_wait_are_there_too(premises):
    """`drainproxy drain --wait` needs no TCP."""
    assert (await premises.ask("GET /status", control=True)).json["phase"] == "ready"
    hook = await premises.hook(control=True)
    premises.sigterm()
    premises.finish()
    assert (await hook.answer()).text == "drained\n"


@pytest.mark.parametrize("line", ["GET /drain", "GET /undrain", "POST /drain/wait"])
async def test_a_get_changes_nothing(premises, line):
    """Safe methods are safe."""
    assert (await premises.ask(line, control=True)).status == 405
    assert not premises.controller.published.draining


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/", "/nope"])
async def test_the_rest_is_on_tcp_only(premises, path):
    """Each door has its own table."""
    assert (await premises.ask(f"GET {path}", control=True)).status == 404


async def test_the_socket_is_gone_after_stop(premises):
    """`drainproxy drain` then says that nobody runs, instead of hanging."""
    await premises.close()
    assert not premises.control_path.exists()


async def test_what_a_killed_process_left_is_replaced(tmp_path):
    """A container restarts in the same volume."""
    premises = Premises(tmp_path)
    premises.control_path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(premises.control_path))
    await premises.open()
    assert premises.diary.of("control_socket") == []
    assert (await premises.ask("GET /status", control=True)).status == 200
    await premises.close()


async def test_a_socket_on_which_somebody_answers_is_not_taken(tmp_path):
    """Two processes with one path: the first keeps it, the second says so and goes on."""
    first, second = Premises(tmp_path), Premises(tmp_path)
    await first.open()
    await second.open()
    (line,) = second.diary.of("control_socket")
    assert (line["level"], line["error"]) == ("warning", "Address already in use")
    assert (await second.ask("GET /readyz")).status == 200
    await second.close()
    await first.ask("POST /drain", control=True)
    assert first.controller.published.draining
    await first.close()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    """A wrong path must not cost anybody a file."""
    premises = Premises(tmp_path)
    premises.control_path.parent.mkdir()
    premises.control_path.write_text("precious")
    await premises.open()
    assert len(premises.diary.of("control_socket")) == 1
    await premises.close()
    assert premises.control_path.read_text() == "precious"


async def test_without_a_place_for_it_the_proxy_runs_and_says_so_once(tmp_path):
    """A read-only root file system, or a path longer than a socket's may be."""
    for path in (tmp_path / "file" / "control.sock", tmp_path / ("x" * 200)):
        premises = Premises(tmp_path)
        (tmp_path / "file").write_text("")
        premises.control_path = path
        premises.admin.settings = type(premises.admin.settings)(control_socket=str(path))
        await premises.open()
        (line,) = premises.diary.of("control_socket")
        assert (line["level"], line["path"]) == ("warning", str(path))
        assert (await premises.ask("GET /livez")).status == 200
        await premises.close()


# An abstract socket: no directory, and so no emptyDir.


@pytest.fixture
async def abstract(tmp_path):
    """Premises whose control socket has a name of this test's own."""
    premises = Premises(tmp_path)
    premises.control_path = f"@{tmp_path}"
    premises.admin.settings = type(premises.admin.settings)(control_socket=premises.control_path)
    await premises.open()
    yield premises
    await premises.close()


def command(path: str, *before: str) -> subprocess.Popen[str]:
    """Start what `drainproxy drain` runs as another program, with an interpreter that everybody may use;
    before it stands who runs it."""
    code = Path(hook.__file__).read_text() + f"\nsys.exit(run('drain', {path!r}))"
    return subprocess.Popen(
        [*before, "/usr/bin/python3", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


async def finished(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return a program's exit code and what it said, while this process serves it."""
    out, error = await asyncio.to_thread(child.communicate, timeout=60)
    return child.returncode, out, error


async def test_an_abstract_socket_needs_no_directory(abstract):
    """And leaves nothing behind."""
    assert await finished(command(abstract.control_path)) == (
        0,
        "propagating, waits for min, without the cluster's word\n",
        "",
    )
    assert abstract.controller.published.draining


AS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="to be somebody else takes root: run this as root, or in CI"
)
STRANGERS = {
    "another user": ("setpriv", "--reuid", "65534", "--clear-groups"),
    "another container": ("unshare", "--mount"),
    "another container with processes of its own": ("unshare", "--mount", "--pid", "--fork"),
}


ASK = """
import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(chr(0) + sys.argv[1])
try:
    peer.sendall(b"POST /drain HTTP/1.0\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n")
    print(peer.recv(4096))
except ConnectionError:
    print(b"")
"""


@AS_ROOT
@pytest.mark.parametrize("who", STRANGERS.values(), ids=STRANGERS)
async def test_a_stranger_that_asks_nobody_whose_name_it_is_gets_no_answer(abstract, who):
    """What it says is not even read."""
    child = subprocess.Popen(  # noqa: ASYNC220 - it only starts
        [*who, "/usr/bin/python3", "-c", ASK, abstract.control_path[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert await finished(child) == (0, "b''\n", "")
    assert (await abstract.ask("GET /status")).json["phase"] == "ready"
    assert not abstract.controller.published.draining


SQUAT = """
import socket, sys
taken = socket.socket(socket.AF_UNIX)
taken.bind(chr(0) + sys.argv[1])
taken.listen()
print(flush=True)
taken.accept()[0].recv(1)
"""


@AS_ROOT
@pytest.mark.parametrize("who", STRANGERS.values(), ids=STRANGERS)
async def test_no_other_user_or_container_is_heard(abstract, who):
    """The whole pod can reach an abstract socket: the kernel is asked who does."""
    code, out, error = await finished(command(abstract.control_path, *who))
    assert (code, out) == (69, "")
    assert f"drainproxy drain: {abstract.control_path}: " in error
    assert not abstract.controller.published.draining


@AS_ROOT
@pytest.mark.parametrize("who", STRANGERS.values(), ids=STRANGERS)
async def test_who_takes_the_name_is_not_taken_for_the_proxy(tmp_path, who):
    """A container of the pod that was there first would swallow the pod's own hook without a word."""
    squatter = subprocess.Popen(  # noqa: ASYNC220 - it only starts
        [*who, "/usr/bin/python3", "-c", SQUAT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with squatter:
        try:
            assert squatter.stdout.readline() == "\n"
            code, _, error = await finished(command(f"@{tmp_path}"))
            assert code == 69
            assert "it belongs to another user or container" in error
        finally:
            squatter.kill()


async def test_a_second_process_with_the_same_name_runs_without_it(abstract, tmp_path):
    """The first keeps it; the second says so once."""
    second = Premises(tmp_path)
    second.admin.settings = abstract.admin.settings
    second.control_path = abstract.control_path
    await second.open()
    (line,) = second.diary.of("control_socket")
    assert (line["level"], line["error"]) == ("warning", "Address already in use")
    await second.close()
