"""Rehearse a release on loopback: what the workflow pushes is built, pushed, pulled back and started.

`make release-rehearsal` runs it. The registry is Debian's docker-registry, on a free port of loopback, and is
gone afterwards. What only GitHub can do is left out: two architectures by buildx, signatures, attestations.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import helm_python as helm
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "release"))
import chart  # noqa: E402 - its own folder must be found first
import check  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED = ("docker-registry", "buildah", "podman", "make")
PATIENCE_S = 30.0
CONFIGURATION = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {directory}}}, delete: {{enabled: true}}}}
http: {{addr: 127.0.0.1:{port}}}
"""


class Failed(Exception):
    """A step did not do what a release needs; says which and why."""


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run a step; return what it wrote. Raises Failed with its last words."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command[:3]))}: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout.strip()


@contextlib.contextmanager
def registry(room: Path) -> Iterator[str]:
    """Run a registry on loopback; yield HOST:PORT."""
    with socket.socket() as wire:
        wire.bind(("127.0.0.1", 0))
        port = wire.getsockname()[1]
    settings = room / "registry.yaml"
    settings.write_text(CONFIGURATION.format(directory=room / "registry", port=port))
    log = (room / "registry.log").open("w")
    with log, subprocess.Popen(["docker-registry", "serve", settings], stdout=log, stderr=log) as process:
        try:
            _answers(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _answers(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
            connection.request("GET", "/v2/")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.05)  # a registry has no word for being ready
    raise Failed("docker-registry does not answer")


def say(what: str) -> None:
    """Tell where the rehearsal is."""
    print(f"release-rehearsal: {what}", flush=True)


def packages(room: Path) -> None:
    """Build the source distribution and the wheel, by what is locked."""
    run("make", "--silent", "dist", f"DIST={room / 'dist'}")
    made = sorted(path.name for path in (room / "dist").iterdir())
    say(f"built {' and '.join(made)}")


def wheel(room: Path) -> None:
    """Compile a wheel of this Python as cibuildwheel is told to, and try what pip takes of all there is."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    locked, raw, dist, venv = ROOT / ".venv" / "build" / "bin", room / "raw", room / "dist", room / "venv"
    name, options = told["build-frontend"].values()
    frontend = (locked / "python", "-m", name, "wheel", *options)
    run(*frontend, "--quiet", "--no-deps", "--wheel-dir", raw, ROOT, environment=told["environment"])
    (built,) = raw.iterdir()
    if built.name.endswith("-none-any.whl"):
        raise Failed(f"{built.name} is not compiled: is a C compiler here, and Python.h?")
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    repair = told["linux"]["repair-wheel-command"].format(dest_dir=dist, wheel=built)
    run(*shlex.split(repair), environment={"PATH": tools})
    (repaired,) = dist.glob("*manylinux*.whl")
    run(sys.executable, "-m", "venv", venv)
    within = {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}
    run(*shlex.split(told["before-test"].format(project=ROOT)), environment=within)
    # The pure wheel of the same version lies beside it.
    run("python", "-m", "pip", "install", "--no-index", "--no-deps", "--find-links", dist, "drainproxy",
        environment=within)  # fmt: skip
    said = run(*shlex.split(told["test-command"].format(project=ROOT)), environment=within)
    run("python", ROOT / "release" / "smoke.py", "pure", environment={**within, "DRAINPROXY_PURE": "1"})
    say(f"compiled {repaired.name}, {repaired.stat().st_size} bytes; pip takes it: {said.splitlines()[0]}")


def image(room: Path, version: str, host: str) -> str:
    """Build the image, push it, and pull it back by digest; return REPOSITORY@DIGEST."""
    name, file = f"{host}/drainproxy:{version}", room / "digest"
    run("image/build", name, environment={"ENGINE": "buildah"})
    run("buildah", "push", "--quiet", "--tls-verify=false", "--digestfile", file, name)
    run("buildah", "rmi", name)
    pushed = f"{host}/drainproxy@{file.read_text()}"
    say(f"pushed {pushed}")
    run("podman", "pull", "--quiet", "--tls-verify=false", pushed)
    return pushed


def started(pulled: str, version: str) -> None:
    """Start what was pulled: it says its version, serves, and ends by SIGTERM with a report."""
    hard = ("--network", "none", "--read-only", "--cap-drop", "all", "--memory", "128m", "--pids-limit", "32")
    said = run("podman", "run", "--rm", *hard, pulled, "version")
    if not re.match(rf"drainproxy {re.escape(version)}, compiled, ", said):
        raise Failed(f"the image says {said.splitlines()[0]}")
    settings = ("--env", "DRAINPROXY_PROPAGATION=none", "--env", "DRAINPROXY_RBAC=none")
    container = run("podman", "run", "--detach", *hard, *settings, pulled)
    try:
        until = time.monotonic() + PATIENCE_S
        while '"listening"' not in run("podman", "logs", container):
            if time.monotonic() > until:
                raise Failed("the image does not start")
            time.sleep(0.1)  # podman tells of no line in a log
        run("podman", "kill", "--signal", "TERM", container)
        code = run("podman", "wait", container)
        if code != "0" or '"drain_report"' not in run("podman", "logs", container):
            raise Failed(f"the image ended with {code} and no report")
    finally:
        run("podman", "rm", "--force", container)
    say(f"pulled it back by digest, started and drained it: {said.splitlines()[0]}")


def charted(room: Path, version: str, pushed: str, host: str) -> None:
    """Push the chart, pull it back by digest, and render it: it runs the very image."""
    charts = f"oci://{host}/charts"
    named = chart.push(chart.package(version, pushed, room), version, charts, plain_http=True)
    say(f"pushed {named}")
    back = room / "back"
    back.mkdir()
    with helm.RegistryClient(plain_http=True) as client:
        client.pull(f"oci://{named}", destination=back, plain_http=True)
    (archive,) = back.glob("*.tgz")
    values = {"injection": {"mode": "webhook"}}
    with helm.Chart.load_archive(archive.read_bytes()) as loaded:
        rendered = loaded.render(values, name="drainproxy", namespace="drainproxy")
        texts = [text for name, text in rendered.items() if name.endswith(".yaml")]
        documents = [each for text in texts for each in yaml.safe_load_all(text) if each]
    images = {
        container["image"]
        for each in documents
        if each["kind"] == "Deployment"
        for container in each["spec"]["template"]["spec"]["containers"]
    }
    if images != {pushed}:
        raise Failed(f"the chart runs {images}, and not {pushed}")
    say(f"pulled it back by digest and rendered {len(documents)} objects that run that image")


def rehearse(room: Path) -> None:
    """Go through a release, from the tag to what a user pulls. Raises Failed."""
    if missing := [each for each in NEEDED if shutil.which(each) is None]:
        raise Failed(f"{' and '.join(missing)} must be installed; Debian has packages of these names")
    if os.geteuid() != 0:
        raise Failed("buildah and podman need root here")
    text = (ROOT / "drainproxy" / "__init__.py").read_text()
    version = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]
    if wrong := check.problems(f"v{version}", unreleased=True):
        raise Failed("; ".join(wrong))
    say(f"tag, changelog and chart agree on {version}")
    packages(room)
    wheel(room)
    run("make", "--silent", "sbom", f"SBOM={room / 'sbom.json'}")
    say(f"listed what the image is built of, {(room / 'sbom.json').stat().st_size} bytes")
    with registry(room) as host:
        pushed = image(room, version, host)
        try:
            started(pushed, version)
        finally:
            run("podman", "rmi", "--force", pushed)
        charted(room, version, pushed, host)


def main() -> int:
    """Rehearse in a directory that is gone afterwards."""
    usual = ROOT / "tests" / "image" / "containers.conf"
    os.environ.setdefault("CONTAINERS_CONF", str(usual))
    with tempfile.TemporaryDirectory(prefix="drainproxy-release-") as directory:
        try:
            rehearse(Path(directory))
        except (Failed, helm.HelmError, subprocess.TimeoutExpired) as error:
            print(f"release-rehearsal: {error}", file=sys.stderr)
            return 1
    say("good")
    return 0


if __name__ == "__main__":
    sys.exit(main())
