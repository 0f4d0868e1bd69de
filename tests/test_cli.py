"""The command line: verbs, exit codes, and what is written where."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from drainproxy import __version__, flavour, settings
from tests.support.command import drainproxy, environment

VERBS = ("run", "config", "drain", "undrain", "wait", "status", "demo", "probe", "version")
ANYWHERE = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")


def script(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `code`, then the command line, in one process."""
    program = f"import sys\nsys.argv = ['drainproxy', *sys.argv[1:]]\n{code}\n"
    return subprocess.run(
        [
            sys.executable,
            "-c",
            program + "from drainproxy.__main__ import main\nsys.exit(main())",
            *arguments,
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help():
    """Help names every verb, the exit codes, and what one would type first."""
    done = drainproxy("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for verb in VERBS:
        assert f"\n    {verb} " in done.stdout
    assert "drainproxy run --listen" in done.stdout
    assert "71  a listening port is in use" in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb):
    """Every verb explains itself."""
    done = drainproxy(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: drainproxy {verb}")


def test_help_explains_settings():
    """Help of `run` has a flag for every setting, with its manual's words and its default."""
    out = drainproxy("run", "--help", env={"COLUMNS": "1000"}).stdout
    said = settings.documentation()
    for setting in settings.table():
        assert f"  {setting.flag} " in out
        assert said[setting.name] in out
    assert f"{said['head_timeout']} [10s]\n" in out


def test_no_verb():
    """Without a verb there is help, and the exit code of a bad command line."""
    done = drainproxy()
    assert done.returncode == 64
    assert done.stdout.startswith("usage: drainproxy")


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["run", "--frob"], ["run", "--lis", ":1"], ["status", "x"]]
)
def test_bad_command_line(arguments):
    """A mistake is one line on stderr that says where to look; flags are never guessed."""
    done = drainproxy(*arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith("drainproxy")
    assert done.stderr.endswith("--help\n")
    assert done.stderr.count("\n") == 1


def test_version():
    """`version` names what runs, `--version` is the short form."""
    done = drainproxy("version")
    assert done.returncode == 0
    assert done.stdout.startswith(f"drainproxy {__version__}, {flavour.current()}, on Python ")
    assert "aiohttp " in done.stdout
    assert drainproxy("--version").stdout == f"drainproxy {__version__}\n"


@pytest.mark.parametrize("verb", [["run"], ["config"], ["config", "--check"]], ids=" ".join)
def test_problems(verb):
    """All problems come at once, a line each, before anything is bound."""
    done = drainproxy(*verb, "--linger", "3", "--listen", "x", env={"DRAINPROXY_SETTLE": "x"})
    assert (done.returncode, done.stdout) == (64, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("drainproxy: ") for line in lines)


def test_config_shows_sources(tmp_path):
    """`config` shows each setting's value and where it came from."""
    file = tmp_path / "s.yaml"
    file.write_text("linger: 1s\n")
    done = drainproxy(
        "config", "--config", str(file), "--reserve=2s", "--allow-half-close", env={"DRAINPROXY_SETTLE": "1s"}
    )
    rows = [line.split(None, 2) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert ["linger", "1s", f"file {file} line 1"] in [[cell.strip() for cell in row] for row in rows]
    for row in (
        ["settle", "1s", "env DRAINPROXY_SETTLE"],
        ["reserve", "2s", "flag --reserve"],
        ["allow_half_close", "true", "flag --allow-half-close"],
        ["propagation_max", "0s", "preset none"],
        ["app_stop", "5s", "default"],
    ):
        assert row in [[cell.strip() for cell in row] for row in rows]


def test_config_shows_what_was_written():
    """What looks like a terminal's markup is shown as it is: an IPv6 address, a path in brackets."""
    done = drainproxy("config", "--upstream", "http://[fd00::1]:8080", "--health-paths", "/a[/b]")
    assert (done.returncode, done.stderr) == (0, "")
    shown = {row[0]: row[1] for row in map(str.split, done.stdout.splitlines()) if len(row) > 2}
    assert shown["upstream"] == "http://[fd00::1]:8080"
    assert shown["health_paths"] == "/a[/b]"


@pytest.mark.parametrize("more", [[], ["--json"], ["--check"]])
@pytest.mark.parametrize("scheme", ["https", "ftp"])
def test_config_shows_no_password_of_an_address(scheme, more):
    """Not where it is in effect, and not where it is refused: both end up in tickets."""
    url = f"{scheme}://me:hunter2@collector:4318/v1/traces?key=hunter2"
    done = drainproxy("config", *more, env={"DRAINPROXY_TRACE_ENDPOINT": url})
    assert "hunter2" not in done.stdout + done.stderr
    if "--check" not in more or scheme == "ftp":
        assert f"{scheme}://***@collector:4318/v1/traces?***" in done.stdout + done.stderr
    upstream = drainproxy("config", *more, env={"DRAINPROXY_UPSTREAM": "http://me:hunter2@app:80"})
    assert "hunter2" not in upstream.stdout + upstream.stderr


def test_config_explains_the_sum():
    """`config` says in words how the grace period is divided."""
    out = drainproxy("config", "--propagation", "cluster", "--grace-period", "40s").stdout
    assert "From SIGTERM to SIGKILL the pod has 40s:" in out
    assert " 15s  at most, until the cluster stops choosing this pod" in out
    assert " 7s  for tunnels and streams to leave (leave_spread 5s + 2s)" in out
    assert " 10s  to spare" in out
    assert "until 32s after SIGTERM" in out
    out = drainproxy("config", "--propagation", "alb").stdout
    assert (
        " 15s  at most, until the cluster stops choosing this pod (propagation_max, shortened from 90s)"
        in out
    )


def test_config_as_json():
    """`config --json` says the same to a script."""
    said = json.loads(drainproxy("config", "--json", "--propagation", "alb", "--linger", "1s").stdout)
    assert said["settings"]["linger"] == {"value": "1s", "source": "flag --linger"}
    assert said["settings"]["propagation_min"] == {"value": "35s", "source": "preset alb"}
    assert said["settings"]["probe_path"] == {"value": None, "source": "default"}
    assert said["plan"]["grace_s"] == 30.0
    assert len(said["warnings"]) == 1


def test_check_passes():
    """`config --check` on a good configuration exits 0."""
    done = drainproxy("config", "--check", env={"DRAINPROXY_SERVICE_HOST": "10.0.0.1"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "the configuration is good\n", "")


def test_check_judges_as_for_a_pod():
    """Wherever it runs: a grace period that is too short for the preset cluster fails."""
    env = {"DRAINPROXY_GRACE_PERIOD": "20s"}
    done = drainproxy("config", "--check", env=env)
    assert (done.returncode, done.stdout) == (64, "")
    assert "propagation_max 15 s" in done.stderr
    assert drainproxy("config", "--check", "--propagation", "none", env=env).returncode == 0
    assert json.loads(drainproxy("config", "--json", env=env).stdout)["warnings"] == []


def test_check_is_strict():
    """What only warns a running pod fails `config --check`: unknown names and a sum that does not fit."""
    env = {"DRAINPROXY_LISTEM": ":1", "DRAINPROXY_PROPAGATION": "alb"}
    done = drainproxy("config", "--check", env=env)
    assert (done.returncode, done.stdout) == (64, "")
    unknown, too_short = done.stderr.splitlines()
    assert "did you mean DRAINPROXY_LISTEN?" in unknown
    assert "grace period 30 s is too short" in too_short
    assert drainproxy("config", env=env).returncode == 0


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "JSON"])
def test_reader_that_leaves(form):
    """A closed pipe ends the output without a traceback."""
    command = [sys.executable, "-m", "drainproxy", "config", *form]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


# run


@contextlib.contextmanager
def running(*arguments: str, **env: str):
    """A proxy that has bound its listeners, and the lines it has logged so far."""
    command = [sys.executable, "-m", "drainproxy", "run", *ANYWHERE, *arguments]
    with subprocess.Popen(command, env=environment(**env), stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = []
            while sum(line["event"] == "listening" for line in lines) < 2:
                lines.append(json.loads(process.stdout.readline()))
            yield process, lines
        finally:
            process.kill()


@pytest.mark.parametrize("loop", ["auto", "uvloop", "asyncio"])
def test_run_until_sigterm(tmp_path, loop):
    """`run` serves on either loop and exits 0 after SIGTERM."""
    with running("--loop", loop, "--control-socket", f"{tmp_path}/c.sock") as (process, _):
        process.send_signal(signal.SIGTERM)
        rest = [json.loads(line) for line in process.stdout]
        assert process.wait(30) == 0
    assert rest[-1]["event"] == "exit"


def test_run_logs_warnings(tmp_path):
    """`run` starts in spite of what `config --check` would refuse, and says so in its log."""
    env = {"DRAINPROXY_LISTEM": ":1", "DRAINPROXY_CONTROL_SOCKET": f"{tmp_path}/c.sock"}
    with running("--grace-period", "10s", "--propagation", "cluster", **env) as (_, lines):
        problems = [line["problem"] for line in lines if line["event"] == "config_problem"]
    assert len(problems) == 2


def test_sigterm_before_the_loop_runs(tmp_path):
    """A signal that comes while modules are still being imported is not lost."""
    early = "import os, signal; from drainproxy.lifecycle import signals; signals.catch_early()"
    kill = "os.kill(os.getpid(), signal.SIGTERM)"
    done = script(f"{early}; {kill}", "run", *ANYWHERE, "--control-socket", f"{tmp_path}/c.sock")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"why":"SIGTERM"' in done.stdout


@pytest.mark.parametrize("which", ["--listen", "--admin"])
def test_port_in_use(which):
    """A port that is taken is one clear line and exit code 71."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        addresses = {"--listen": "127.0.0.1:0", "--admin": "127.0.0.1:0", which: address}
        done = drainproxy("run", *(word for pair in addresses.items() for word in pair))
    assert done.returncode == 71
    assert done.stderr.startswith(f"drainproxy: cannot listen on {address}")
    assert done.stderr.count("\n") == 1


def instead_of_the_app(result: str) -> str:
    """Code that puts `result` in the place of what the app does."""
    return f"import asyncio\nfrom drainproxy import app, errors\nasync def run(_): {result}\napp.run = run"


def test_internal_failure():
    """A defect is exit code 70, with a traceback and a last line that names it."""
    done = script(instead_of_the_app("raise RuntimeError('a defect')"), "run")
    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1] == "drainproxy: internal failure: RuntimeError('a defect')"


def test_port_in_use_inside_a_group():
    """A port in use is found wherever a TaskGroup has wrapped it."""
    wrapped = "raise ExceptionGroup('', [ExceptionGroup('', [errors.ListenError('taken')])])"
    done = script(instead_of_the_app(wrapped), "run")
    assert (done.returncode, done.stderr) == (71, "drainproxy: taken\n")


MISSING = "sys.modules['uvloop'] = None"


def test_uvloop_missing():
    """Asking for uvloop where it is missing is a configuration error."""
    done = script(MISSING, "run", "--loop", "uvloop")
    assert done.returncode == 64
    assert done.stderr == "drainproxy: loop: uvloop is not installed; write auto or asyncio\n"


def test_extras_missing():
    """What an extra brings is asked for at the start, by the name that pip knows."""
    without = "import importlib.util; importlib.util.find_spec = lambda name: None"
    told = ["--trace-endpoint", "http://a:4318/v1/traces", "--metrics-push", "http://a:4318/v1/metrics"]
    done = script(without, "run", "--h2-inspect", "true", *told)
    assert done.returncode == 64
    assert done.stderr.splitlines() == [
        "drainproxy: h2_inspect: hpack is not installed; pip install '.[http2]'",
        "drainproxy: trace_endpoint: opentelemetry is not installed; pip install '.[tracing]'",
        "drainproxy: metrics_push: opentelemetry is not installed; pip install '.[tracing]'",
    ]


@pytest.mark.parametrize(("before", "library"), [(MISSING, "asyncio"), ("", "uvloop")])
def test_loop_auto(before, library):
    """The loop is uvloop where it is installed, asyncio elsewhere."""
    shown = "print(type(asyncio.get_running_loop()).__base__.__module__); return 0"
    done = script(f"{before}\n{instead_of_the_app(shown)}", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.partition(".")[0].strip() == library


# status


class Admin(BaseHTTPRequestHandler):
    """An admin port with one answer."""

    answer = (200, b'{"phase": "ready", "in_flight": []}')

    def do_GET(self):
        status, body = self.answer
        self.send_response(status if self.path == "/status" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def admin():
    """Serve one answer on an admin port; yields the handler class and the port's address."""
    handler = type("OneAdmin", (Admin,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield handler, f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("spelling", ["{}", "http://{}", "http://{}/status"])
def test_status_as_json(admin, spelling):
    """`status --json` prints what the admin port says, however its address is written."""
    _, address = admin
    done = drainproxy("status", "--json", "--admin", spelling.format(address))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"phase": "ready", "in_flight": []}


def test_status_from_the_environment(admin):
    """Inside the pod `status` finds the port by the proxy's own setting, never through an HTTP proxy."""
    _, address = admin
    env = {"DRAINPROXY_ADMIN": f":{address.rpartition(':')[2]}", "http_proxy": "http://127.0.0.1:9"}
    done = drainproxy("status", "--json", env=env)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((403, b"no"), "it answered 403 Forbidden"),
        ((200, b"<html>"), "its answer makes no sense"),
        ((200, b"[]"), "its answer is no status"),
        ((200, b'{"status": "UP"}'), "its answer is no status"),
        ((200, b"[" * 100_000), "its answer makes no sense"),
    ],
    ids=["refused", "not JSON", "other JSON", "of another program", "deep"],
)
def test_status_that_is_none(admin, answer, says):
    """An answer that is not a status is one line and exit code 69."""
    handler, address = admin
    handler.answer = answer
    done = drainproxy("status", "--admin", address)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith(f"drainproxy: no status from {address}: {says}")
    assert done.stderr.count("\n") == 1


def test_status_of_nobody():
    """Where no proxy answers, one line says so."""
    with socket.create_server(("127.0.0.1", 0)) as freed:
        address = f"127.0.0.1:{freed.getsockname()[1]}"
    done = drainproxy("status", "--admin", address)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.count("\n") == 1


def test_status_with_a_bad_address():
    """An address that is none is a configuration error."""
    done = drainproxy("status", "--admin", "localhost")
    assert done.returncode == 64
    assert 'admin (flag --admin): "localhost" is not an address' in done.stderr


def test_status_of_a_real_proxy(tmp_path):
    """`status` draws a running proxy."""
    with running("--control-socket", f"{tmp_path}/c.sock") as (_, lines):
        [address] = [line["address"] for line in lines if line.get("listener") == "admin"]
        done = drainproxy("status", "--admin", address)
    assert (done.returncode, done.stderr) == (0, "")
    assert "waits for" in done.stdout
