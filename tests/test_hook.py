"""The hooks' helper: what it sends over the control socket, what it makes of the answer, what it costs."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest

from drainproxy import hook
from drainproxy.admin.settings import AdminSettings
from tests.support.command import INSTALLED, drainproxy, environment

DRAINING = b"HTTP/1.1 202 Accepted\r\nContent-Length: 12\r\n\r\npropagating\n"
READY = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n"
DRAINED = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\ndrained\n"
CONFLICT = b"HTTP/1.1 409 Conflict\r\n\r\nthe pod is terminating\n"

MAX_CPU_S = 0.050
MAX_RSS_BYTES = 15 * 1024 * 1024


class ControlSocket:
    """A scripted proxy: gives each connection the next answer, then closes it."""

    def __init__(self, path: str, answers: list[bytes]) -> None:
        self.path = path
        self.requests: list[bytes] = []
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._listener.settimeout(30)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._listener:
            for answer in self._answers:
                peer, _ = self._listener.accept()
                with peer:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += peer.recv(4096)
                    self.requests.append(request)
                    self.asked.set()
                    self.may_answer.wait(30)
                    peer.sendall(answer)

    def close(self) -> None:
        self.may_answer.set()
        self._thread.join()


@pytest.fixture
def control(tmp_path):
    """Start scripted control sockets; each must have been asked everything by the test's end."""
    made: list[ControlSocket] = []

    def make(*answers: bytes) -> ControlSocket:
        made.append(ControlSocket(str(tmp_path / "control.sock"), list(answers)))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["drain"], b"POST /drain HTTP/1.0"),
        (["drain", "--prestop"], b"POST /drain?prestop=1 HTTP/1.0"),
        (["undrain"], b"POST /undrain HTTP/1.0"),
        (["wait"], b"GET /drain/wait HTTP/1.0"),
    ],
    ids=["drain", "prestop", "undrain", "wait"],
)
def test_what_is_sent(control, arguments, line):
    """Each verb is one request, and the proxy's answer is shown."""
    proxy = control(DRAINING)
    done = drainproxy(*arguments, env={"DRAINPROXY_CONTROL_SOCKET": proxy.path})
    assert proxy.requests == [line + b"\r\nHost: drainproxy\r\nContent-Length: 0\r\n\r\n"]
    assert (done.returncode, done.stdout, done.stderr) == (0, "propagating\n", "")


def test_drain_and_wait(control):
    """`drain --wait` begins the drain and returns when the proxy says that it is over."""
    proxy = control(DRAINING, DRAINED)
    done = drainproxy("drain", "--wait", "--prestop", "--control-socket", proxy.path)
    assert [request.split(b" HTTP")[0] for request in proxy.requests] == [
        b"POST /drain?prestop=1",
        b"GET /drain/wait",
    ]
    assert (done.returncode, done.stdout) == (0, "propagating\ndrained\n")


def test_wait_blocks(control):
    """`wait` ends when the answer comes, and not before."""
    proxy = control(DRAINED)
    proxy.may_answer.clear()
    command = [sys.executable, "-m", "drainproxy", "wait", "--control-socket", proxy.path]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE) as waiting:
        assert proxy.asked.wait(30)
        assert waiting.poll() is None
        proxy.may_answer.set()
        out, _ = waiting.communicate(timeout=30)
    assert (waiting.returncode, out) == (0, b"drained\n")


def test_refused(control):
    """A refusal is one line with the proxy's reason and its own exit code."""
    proxy = control(CONFLICT)
    done = drainproxy("undrain", "--control-socket", proxy.path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "drainproxy undrain: the pod is terminating\n"


def test_refused_without_a_reason(control):
    """A refusal without words names its status."""
    proxy = control(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
    done = drainproxy("wait", "--control-socket", proxy.path)
    assert (done.returncode, done.stderr) == (1, "drainproxy wait: the proxy answered 503\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        b"SSH-2.0 hello\r\n\r\n",
        b"HTTP/1.1 xyz\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_no_answer(control, answer):
    """A proxy that ends before its answer, or another program, counts as unreachable."""
    proxy = control(answer)
    done = drainproxy("wait", "--control-socket", proxy.path)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == f"drainproxy wait: {proxy.path}: closed without an answer\n"


def test_no_socket(tmp_path):
    """Without a socket the hook fails at once with one line that says what to look at."""
    done = drainproxy("drain", "--prestop", "--control-socket", f"{tmp_path}/none.sock")
    assert done.returncode == 69
    assert done.stderr.startswith(f"drainproxy drain: {tmp_path}/none.sock: no such socket;")
    assert done.stderr.count("\n") == 1


def test_socket_left_behind(control):
    """A socket file whose proxy was killed is told apart from a missing one."""
    proxy = control()
    proxy.close()
    done = drainproxy("drain", "--control-socket", proxy.path)
    assert done.returncode == 69
    assert done.stderr == f"drainproxy drain: {proxy.path}: nobody listens; the proxy has ended\n"


def test_path_too_long():
    """A path no socket can have is a line, not a traceback."""
    done = drainproxy("drain", "--control-socket", "/" + "x" * 200)
    assert done.returncode == 69
    assert done.stderr.count("\n") == 1


def test_other_spellings(control):
    """What the short path does not understand, argparse does, and the same is sent."""
    proxy = control(DRAINING)
    done = drainproxy("drain", f"--control-socket={proxy.path}", "--prestop")
    assert proxy.requests[0].startswith(b"POST /drain?prestop=1 ")
    assert done.returncode == 0


@pytest.mark.parametrize(
    "arguments", [["drain", "--help"], ["wait", "--wait"], ["undrain", "now"]], ids=" ".join
)
def test_help_and_mistakes(arguments):
    """Help and mistakes are argparse's, with the exit code of a bad command line."""
    done = drainproxy(*arguments)
    wanted = (0, "") if "--help" in arguments else (64, done.stderr)
    assert (done.returncode, done.stderr) == wanted
    assert done.stderr.count("\n") <= 1


def test_default_socket():
    """The helper's default is the setting's: it may not import the setting itself."""
    assert AdminSettings().control_socket == hook.DEFAULT_CONTROL_SOCKET


def test_imports():
    """The hooks import os, sys and the kernel's sockets: a throttled container pays for every module."""
    listing = "; print(*sorted(sys.modules))"
    few = f"import os, sys, _socket, __future__{listing}"
    allowed = subprocess.check_output([sys.executable, "-c", few], text=True)
    run = (
        "import sys; sys.argv = ['drainproxy', 'drain', '--prestop', '--control-socket', '/nowhere'];"
        f" from drainproxy.__main__ import main; main(){listing}"
    )
    loaded = subprocess.check_output([sys.executable, "-c", run], text=True, stderr=subprocess.DEVNULL)
    ours = {"drainproxy", "drainproxy.__main__", "drainproxy.hook"}
    assert set(loaded.split()) - set(allowed.split()) == ours


# A process inherits its parent's peak memory, so that a small one must do the spawning.
MEASURE = """
import os, sys
process = os.posix_spawn(sys.executable, sys.argv[1:], os.environ)
_, status, usage = os.wait4(process, 0)
print(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
"""


def test_cost(control):
    """A hook's process costs a twentieth of a CPU second and 15 MB at most."""
    runs = 5
    proxy = control(*[DRAINING] * runs)
    command = [sys.executable, "-m", "drainproxy", "drain", "--prestop", "--control-socket", proxy.path]
    costs = []
    for _ in range(runs):
        out = subprocess.check_output(
            [sys.executable, "-c", MEASURE, *command], env=environment(**INSTALLED), text=True
        )
        status, cpu_s, rss_bytes = out.splitlines()[-1].split()
        assert status == "0"
        costs.append((float(cpu_s), int(rss_bytes)))
    # Another process on this machine only adds to a run: the smallest is the hook's own.
    assert min(cpu_s for cpu_s, _ in costs) <= MAX_CPU_S
    assert min(rss_bytes for _, rss_bytes in costs) <= MAX_RSS_BYTES
