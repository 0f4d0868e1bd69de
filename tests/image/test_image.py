"""The image: linted, locked, and built and started here as far as that goes without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.image.engine import ROOT, run
from tests.image.installing import install

TOOLS = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
NO_INDEX = re.compile(r"NewConnectionError|ConnectTimeout|Temporary failure|No matching distribution.*none")


def tool(name: str) -> str:
    """Where a program is; skip without it."""
    return shutil.which(name, path=TOOLS) or pytest.skip(f"{name} is not installed; make .venv/group-deploy")


def test_hadolint_finds_nothing():
    """Every rule, none ignored."""
    done = run(tool("hadolint"), "--no-color", ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_by_number_without_a_shell():
    """runAsNonRoot can be checked, signals reach the proxy itself, and 1 is its own pid."""
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "\nUSER 65532:65532\n" in final
    assert json.loads(re.search(r"^ENTRYPOINT (.*)$", final, re.MULTILINE)[1]) == [
        "/opt/drainproxy/bin/drainproxy"
    ]
    assert json.loads(re.search(r"^CMD (.*)$", final, re.MULTILINE)[1]) == ["run"]
    assert "RUN" not in re.findall(r"^\w+", final, re.MULTILINE), "the final stage only copies"
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in final


def test_only_what_the_build_reads_is_sent_to_it():
    """Each file that is copied is let through, and nothing else is."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copied = " ".join(re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)).split()
    assert {each.partition("/")[0] for each in copied} == allowed
    assert all((ROOT / each).exists() for each in copied)


def locked(lock: str = "requirements.lock") -> dict[str, str]:
    """Package -> version of a lock file."""
    text = (ROOT / lock).read_text()
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE))


def test_the_lock_holds_every_dependency_with_its_hash():
    """What pyproject.toml asks for is in it; if not, run `make lock`."""
    text = (ROOT / "pyproject.toml").read_text()
    asked = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)[1]
    extras = re.search(r"^\[project.optional-dependencies\]\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL)[1]
    names = re.findall(r'"([\w.-]+)>=', asked + extras)
    assert {name.lower() for name in names} <= set(locked())
    for each in ROOT.glob("requirements*.lock"):
        entries = re.findall(r"^[\w.-]+==(?:[^\\\n]*\\\n)*.*", each.read_text(), re.MULTILINE)
        assert entries
        assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-build.lock"])
@pytest.mark.parametrize("architecture", ["aarch64", "x86_64"])
def test_every_locked_dependency_has_a_wheel(architecture, lock, tmp_path):
    """Of the image's Python and its C library: of these nothing is compiled, on either architecture."""
    minor = re.search(r"^ARG PYTHON=python:(\d+\.\d+)-slim", DOCKERFILE, re.MULTILINE)[1]
    platforms = [f"--platform=manylinux{tag}_{architecture}" for tag in ("2014", "_2_17", "_2_28", "_2_34")]
    done = run(
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--no-deps", "--only-binary=:all:"),
        *("--require-hashes", "--ignore-installed", "--disable-pip-version-check", "--retries=1"),
        *(f"--python-version={minor}", *platforms, f"--target={tmp_path}", "--report=-"),
        *("--requirement", ROOT / lock),
        timeout=110,
    )
    if done.returncode and NO_INDEX.search(done.stderr):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    files = [each["download_info"]["url"].rpartition("/")[2] for each in json.loads(done.stdout)["install"]]
    assert len(files) >= len(locked(lock)) - 1, "all but typing-extensions, which 3.13 does not need"
    assert all(each.endswith((f"_{architecture}.whl", "-any.whl")) for each in files)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_sound(workflow):
    """They follow GitHub's schema, pin what they use by hash, and leave no door open."""
    schema = run(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", workflow)
    assert schema.returncode == 0, schema.stdout
    audit = run(tool("zizmor"), "--offline", "--no-progress", "--persona=regular", workflow)
    assert audit.returncode == 0, audit.stdout
    for used in re.findall(r"uses: (\S+)", workflow.read_text()):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", used), used


READ_ONLY = """
mount --make-rprivate /
mount -t tmpfs -o size=1m,mode=1777 tmpfs "$1"
for each in $(awk '$2 !~ "^/(proc|sys|dev)(/|$)" {print $2}' /proc/self/mounts | grep -v "^$1$"); do
  mount -o remount,ro,bind "$each" 2>/dev/null || true
done
touch "$2/proof" 2>/dev/null && exit 99
shift 2
exec setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs --bounding-set=-all "$@"
"""
"""A container's root file system: read-only, one small tmpfs, no capability, nobody's user."""


def _python() -> str:
    """An interpreter that a user without rights may execute, if there is one."""
    return next(path for path in ("/usr/bin/python3", sys.executable) if Path(path).exists())


def _environment(prefix: Path) -> dict[str, str]:
    """The final stage's ENV."""
    text = DOCKERFILE.rpartition("\nFROM ")[2].replace("\\\n", " ")
    pairs = dict(re.findall(r"(\w+)=(\S+)", re.search(r"^ENV (.*)$", text, re.MULTILINE)[1]))
    return {name: value.replace("/opt/drainproxy", str(prefix)) for name, value in pairs.items()}


def _free_port() -> int:
    with socket.socket() as wire:
        wire.bind(("127.0.0.1", 0))
        return wire.getsockname()[1]


def _answer(port: int, child: subprocess.Popen[str]) -> int:
    """The status of /startupz, as soon as there is one."""
    for _ in range(600):
        assert child.poll() is None, child.communicate()
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/startupz", timeout=5).status
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise AssertionError("it never started")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_is_built_starts_under_a_read_only_root():
    """The build stages' own commands fill a clean prefix, and the ENTRYPOINT runs there as user 65532.

    Nothing can be written but the control socket's directory; the hook needs no shell; SIGTERM ends it.
    """
    room = Path("/var/tmp") / f"drainproxy-image-{os.getpid()}"
    namespace = run("unshare", "--mount", "true")
    if os.geteuid() != 0 or namespace.returncode != 0:
        pytest.skip("mount namespaces need root: run this as root, or in CI")
    prefix, run_directory = room / "opt", room / "run"
    run_directory.mkdir(parents=True)
    try:
        for step in ("dependencies", "package"):
            assert f" image/install {step} /opt/drainproxy\n" in DOCKERFILE
            built = install(step, prefix, PYTHON=_python())
            if built.returncode and "no package index can be reached" in built.stderr:
                pytest.skip("no package index can be reached")
            assert built.returncode == 0, built.stderr
        sources = list(prefix.rglob("site-packages/drainproxy/**/*.py"))
        assert sources
        assert all(list(each.parent.glob(f"__pycache__/{each.stem}.*.pyc")) for each in sources)
        copied = room / "opt-package"
        site = prefix.rglob("site-packages/drainproxy").__next__().relative_to(prefix)
        assert {each.name for each in (copied / site.parent).iterdir()} == {
            "drainproxy",
            next(prefix.rglob("drainproxy-*.dist-info")).name,
        }
        assert [each.name for each in (copied / "bin").iterdir()] == ["drainproxy"]
        _without_a_compiler(prefix)
        _start(room, prefix, run_directory)
    finally:
        shutil.rmtree(room)


def _without_a_compiler(prefix: Path) -> None:
    """Where the code cannot be compiled, it is pure, with a line; of a release there is no image then."""
    why = (
        "image/install: drainproxy is pure here, since it could not be compiled: there is no C compiler none"
    )
    built = install("package", prefix, PYTHON=_python(), COMPILE="1", CC="none")
    assert (built.returncode, built.stderr) == (0, f"{why}\n")
    said = run(prefix / "bin" / "drainproxy", "version", env=_environment(prefix))
    assert ", pure, on Python" in said.stdout
    built = install("package", prefix, PYTHON=_python(), COMPILE="must", CC="none")
    assert (built.returncode, built.stderr) == (1, f"{why}\n")


def _start(room: Path, prefix: Path, run_directory: Path) -> None:
    admin = _free_port()
    control = str(run_directory / "control.sock")
    environment = {
        **_environment(prefix),
        "DRAINPROXY_LISTEN": "127.0.0.1:0",
        "DRAINPROXY_ADMIN": f"127.0.0.1:{admin}",
        "DRAINPROXY_CONTROL_SOCKET": control,
        "DRAINPROXY_PROPAGATION": "none",
    }
    entry = str(prefix / "bin" / "drainproxy")
    inside = ("sh", "-c", READ_ONLY, "sh", str(run_directory), str(room))
    child = subprocess.Popen(
        ["unshare", "--mount", *inside, entry, "run"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert _answer(admin, child) == 200
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert re.search(r"^Uid:\s+65532\s+65532", status, re.MULTILINE), "not the image's user"
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), "it has capabilities"
        hook = run(
            "nsenter", f"--mount=/proc/{child.pid}/ns/mnt", entry, "drain", "--prestop", env=environment
        )
        assert hook.returncode == 0, hook.stderr
        child.send_signal(signal.SIGTERM)
        said, _ = child.communicate(timeout=60)
        assert child.returncode == 0, said
        assert '"event":"drain_report"' in said.replace('": "', '":"')
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
