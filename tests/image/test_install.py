"""What stops the build of an image: it ends with a sentence that says what to do."""

from __future__ import annotations

import shutil
import sys
import zipfile
from importlib import util

import pytest

from tests.image.engine import ROOT, run
from tests.image.installing import install
from tests.image.package_index import serve
from tests.support.authority import Authority

pytest.importorskip("packaging", reason="tidy.py needs it, as in the build")
HASH = "0" * 64


def said(done) -> str:
    """Return the last line of a build that has failed."""
    assert done.returncode != 0, done.stdout
    return done.stderr.strip().splitlines()[-1]


def wheel(directory, name: str, version: str = "1.0", requires: str = "") -> str:
    """Write a package of no code; return its file's name."""
    file = f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    with zipfile.ZipFile(directory / file, "w") as made:
        made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{info}/RECORD", "")
    return file


@pytest.fixture
def checkout(tmp_path):
    """The parts that the first step reads, to be changed, with one package in the lock of what builds."""
    root = tmp_path / "checkout"
    root.mkdir()
    shutil.copytree(ROOT / "image", root / "image")
    (root / "requirements-build.lock").write_text(f"shop==1.0 --hash=sha256:{HASH}\n")
    (root / "requirements.lock").write_text(f"shop==1.0 --hash=sha256:{HASH}\n")
    return root


@pytest.fixture
def build(checkout, tmp_path):
    """Run the first step against an index, as the secrets of a build give it."""

    def run(url: str, authority: Authority, **more: str):
        settings = tmp_path / "pip.conf"
        settings.write_text(f"[global]\nindex-url = {url}\nretries = 0\ntimeout = 10\n")
        environment = {
            "PIP_CONFIG_FILE": str(settings),
            "PIP_CERT": str(authority.file),
            "PIP_FIND_LINKS": "",
        }
        return install("dependencies", tmp_path / "prefix", root=checkout, **{**environment, **more})

    return run


def interpreter(directory, version: str) -> str:
    """Write a Python that says to be of a version; return its path."""
    fake = directory / "python"
    number = ", ".join(version.split("."))
    fake.write_text(
        f"#!{sys.executable}\nimport platform, sys\n"
        f"sys.version_info = ({number})\nplatform.python_version = lambda: {version!r}\n"
        "exec(sys.argv[2])\n"
    )
    fake.chmod(0o755)
    return str(fake)


def test_an_old_python(tmp_path):
    """The base's version is said, and the one that is needed."""
    done = install("dependencies", tmp_path / "prefix", PYTHON=interpreter(tmp_path, "3.9.2"))
    assert said(done).startswith("image/install: the base has Python 3.9.2, linux-")
    assert said(done).endswith(", and drainproxy needs Python 3.11 or newer")


def test_no_python(tmp_path):
    """A base that is no Python's at all."""
    done = install("dependencies", tmp_path / "prefix", PYTHON=str(tmp_path / "none"))
    assert said(done) == "image/install: the base has no python3, and drainproxy needs Python 3.11 or newer"


def test_an_index_that_cannot_be_reached(build, authority):
    """Nobody listens there."""
    done = build("https://localhost:1/simple", authority)
    assert said(done) == (
        "image/install: no package index can be reached: name one in a pip.conf, given as the secret pip"
    )


def test_an_index_that_is_not_trusted(build, authority, tmp_path):
    """A private CA that the build has not been given."""
    (tmp_path / "wheels").mkdir()
    other = Authority(tmp_path, "other")
    with serve(tmp_path / "wheels", authority) as (url, _):
        done = build(url, other)
    assert said(done) == (
        "image/install: nobody trusted here has signed the index's certificate: give its CA as the secret ca"
    )


def test_a_wrong_hash(build, authority, tmp_path):
    """The index has another file than the one that was locked."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "shop")
    with serve(wheels, authority) as (url, _):
        done = build(url, authority)
    assert said(done) == (
        "image/install: wrong hash: the index has another shop==1.0 than requirements-build.lock names"
    )


def test_no_hash(build, authority, checkout, tmp_path):
    """A line of the lock file that somebody wrote by hand."""
    (checkout / "requirements-build.lock").write_text("shop==1.0\n")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel(wheels, "shop")
    with serve(wheels, authority) as (url, _):
        done = build(url, authority)
    assert (
        said(done) == "image/install: no hash: requirements-build.lock has none for shop==1.0; run make lock"
    )


def test_no_wheel_for_this_platform(build, authority, tmp_path):
    """The index has the package for others alone: nothing is compiled."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / wheel(wheels, "shop")).rename(wheels / "shop-1.0-cp39-cp39-win_amd64.whl")
    with serve(wheels, authority) as (url, _):
        done = build(url, authority)
    assert said(done).startswith(
        "image/install: no wheel: the index has none of shop==1.0 for this platform (Python 3."
    )


def test_a_lock_without_what_this_platform_needs(tmp_path):
    """pip is told to resolve nothing, so somebody else looks: a package that is missing stops the build."""
    spec = util.spec_from_file_location("tidy", ROOT / "image" / "tidy.py")
    tidy = util.module_from_spec(spec)
    spec.loader.exec_module(tidy)
    site = tmp_path / "prefix" / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    for name, requires in (
        ("rich", "Pygments>=2"),
        ("shop", "till>=1; sys_platform == 'linux'"),
        ("office", "stamps; sys_platform == 'win32'"),
        ("desk", "lamp; extra == 'light'"),
        ("room", "desk[light]>=1"),
        ("street", "Room"),
    ):
        with zipfile.ZipFile(tmp_path / wheel(tmp_path, name, requires=requires)) as made:
            made.extractall(site)
    assert sorted(tidy.missing(site)) == [
        f"{who} needs {what}, which requirements.lock does not have for this platform: run make lock"
        for who, what in (("desk", "lamp"), ("shop", "till"))
    ]
    done = tidy.main([str(tmp_path / "prefix")])
    assert done == 1


def test_a_package_that_is_left_out_is_not_locked_either():
    """`make lock` reads image/left-out, so that the list of what the image is built of is the image's."""
    lines = (ROOT / "image" / "left-out").read_text().splitlines()
    names = [line.split()[1] for line in lines if line.startswith("package ")]
    locked = (ROOT / "requirements.lock").read_text()
    assert names
    assert not [name for name in names if f"\n{name}==" in locked]
    assert "$(LEFT_OUT) --output-file requirements.lock" in (ROOT / "Makefile").read_text()


@pytest.fixture
def bare(tmp_path):
    """A path with what a script needs of a system, and no engine."""
    for name in ("dirname", "sed", "id", "env"):
        (tmp_path / name).symlink_to(shutil.which(name))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("script", "environment", "sentence"),
    [
        ("build", {}, "image/build: neither docker with buildx, nor buildah, nor podman is here"),
        ("build", {"ENGINE": "buildah"}, "image/build: buildah is not installed"),
        ("base", {}, "image/base: mmdebstrap is not installed; Debian and Ubuntu have it as a package"),
    ],
)
def test_a_machine_that_cannot_build_it(bare, script, environment, sentence):
    """`make image` says in one line what is missing."""
    done = run(ROOT / "image" / script, "shop", env={"PATH": bare, **environment})
    assert (done.returncode, done.stderr) == (1, f"{sentence}\n")


def test_a_client_of_docker_without_a_daemon_is_no_engine(bare, tmp_path):
    """Its client alone is often there: another engine is taken, or it is said what it lacks."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    done = run(ROOT / "image" / "build", "shop", env={"PATH": bare})
    assert done.stderr == "image/build: neither docker with buildx, nor buildah, nor podman is here\n"
    done = run(ROOT / "image" / "build", "shop", env={"PATH": bare, "ENGINE": "docker"})
    assert done.stderr == "image/build: docker has no daemon or no buildx here\n"


def test_a_secret_that_is_not_there(bare, tmp_path):
    """Better than a build that goes to the public index after all."""
    buildah = tmp_path / "buildah"
    buildah.write_text("#!/bin/sh\n")
    buildah.chmod(0o755)
    environment = {"PATH": bare, "ENGINE": "buildah", "PIP_CONF": "/nowhere/pip.conf"}
    done = run(ROOT / "image" / "build", "shop", env=environment)
    assert (done.returncode, done.stderr) == (1, "image/build: /nowhere/pip.conf cannot be read\n")
