"""The image is built by an engine: the same digest twice, small, in layers, and from a private index too.

`make image-test` runs it, after `make image`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid

import pytest

from tests.image.engine import BASE, IMAGE, ROOT, build, engine, podman, run
from tests.image.package_index import serve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MAX_OWN_BYTES = 45_000_000
MAX_CODE_BYTES = 10_000_000
SENT = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"]
"""What is sent to a build; a test sees to it that nothing is missing there."""


def digest(said: str) -> str:
    """Return what image/build has said last."""
    return re.search(r"^(sha256:[0-9a-f]{64}) ", said, re.MULTILINE)[1]


def revision() -> str:
    """Return the commit that the image was built of."""
    labels = json.loads(podman("image", "inspect", IMAGE))[0]["Labels"]
    return labels["org.opencontainers.image.revision"]


def layers(name: str) -> list[str]:
    """Return the layers of an image, the base's first."""
    return json.loads(podman("image", "inspect", name))[0]["RootFS"]["Layers"]


def sizes(name: str) -> list[int]:
    """Return the bytes of the layers that are not the base's, the lowest first."""
    history = json.loads(podman("history", "--format", "json", name))
    own = [each for each in history if each["CreatedBy"].startswith("/bin/sh -c #(nop)")]
    return [each["size"] for each in reversed(own) if each["size"]]


@pytest.fixture
def name():
    """A name for one image, which is removed behind the test."""
    engine("buildah")
    chosen = f"localhost/drainproxy-test:{uuid.uuid4().hex[:12]}"
    yield chosen
    run("buildah", "rmi", "--force", chosen)


@pytest.fixture
def checkout(tmp_path):
    """A copy of what an image is built of, to be changed."""
    root = tmp_path / "checkout"
    root.mkdir()
    for each in ("Dockerfile", ".dockerignore", *SENT):
        source = ROOT / each
        if source.is_dir():
            shutil.copytree(source, root / each, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / each)
    return root


def test_two_builds_of_one_commit_are_one_image(name):
    """Without any cache: the digest that somebody else has built can be built again, and compared."""
    done = build(name, NO_CACHE="1", REVISION=revision())
    assert done.returncode == 0, done.stderr
    assert digest(done.stdout) == json.loads(podman("image", "inspect", IMAGE))[0]["Digest"]


def test_it_is_compiled_and_has_no_compiler():
    """By default, for the interpreter that it has; what compiled it stays behind."""
    said = podman("run", "--rm", "--network", "none", IMAGE, "version")
    assert ", compiled, on Python" in said
    find = "import shutil, sys; sys.exit(any(map(shutil.which, ('cc', 'gcc', 'ld', 'mypyc'))))"
    podman("run", "--rm", "--network", "none", "--entrypoint", "python3", IMAGE, "-c", find)
    sources = ("run", "--rm", "--network", "none", "--env", "DRAINPROXY_PURE=1", IMAGE, "version")
    assert ", pure, on Python" in podman(*sources)


def test_its_own_layers_are_small():
    """One with the dependencies, one with the code; what they weigh is what a node pulls."""
    dependencies, code = sizes(IMAGE)
    print(f"dependencies {dependencies:,} bytes, code {code:,} bytes")
    assert dependencies + code < MAX_OWN_BYTES
    assert code < MAX_CODE_BYTES


def test_a_change_of_the_code_is_one_small_layer(name, checkout):
    """Base and dependencies stay, byte for byte: a node that has the old version pulls the code alone."""
    with (checkout / "drainproxy" / "hook.py").open("a") as file:
        file.write('\nCHANGED = "in this checkout alone"\n')
    # What is compiled is as small whatever it was compiled from: here that would only take its time.
    done = build(name, root=checkout, COMPILE="0")
    assert done.returncode == 0, done.stderr
    before, after = layers(IMAGE), layers(name)
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]


def test_a_private_index_behind_a_private_authority(name, authority, tmp_path):
    """PIP_CONF and CA reach the build as secrets: each file comes from there, and the image is the same.

    It is the image of the sources: COMPILE=0.
    """
    pure = build(name, COMPILE="0", REVISION=revision())
    assert pure.returncode == 0, pure.stderr
    assert ", pure, on Python" in podman("run", "--rm", "--network", "none", name, "version")
    wheels = tmp_path / "wheels"
    # By the base's Python, whose wheels these must be.
    script = (
        "python3 -m venv /tmp/v && /tmp/v/bin/pip download -q --no-deps --only-binary :all: --dest /wheels "
        "-r /src/requirements.lock -r /src/requirements-build.lock"
    )
    wheels.mkdir()
    ca = os.environ.get("PIP_CERT") or "/etc/ssl/certs/ca-certificates.crt"
    podman(
        *("run", "--rm", "--network", "host", "--volume", f"{wheels}:/wheels", "--volume", f"{ROOT}:/src:ro"),
        *("--volume", f"{ca}:/ca.pem:ro", "--env", "PIP_CERT=/ca.pem", BASE, "sh", "-c", script),
        timeout=200,
    )
    with serve(wheels, authority) as (url, asked):
        settings = tmp_path / "pip.conf"
        settings.write_text(f"[global]\nindex-url = {url}\n")
        secrets = {"PIP_CONF": str(settings), "CA": str(authority.file)}
        done = build(name, NO_CACHE="1", COMPILE="0", REVISION=revision(), **secrets)
        assert done.returncode == 0, done.stderr
    assert {each.name for each in wheels.iterdir()} <= {path.rpartition("/")[2] for path in asked}
    assert digest(done.stdout) == digest(pure.stdout)


def test_a_base_without_python(name, tmp_path):
    """The build stops and says which Python is needed."""
    (tmp_path / "Dockerfile").write_text(f"FROM {BASE}\nRUN rm /usr/bin/python3\n")
    bare = f"{name}-bare"
    made = run("buildah", "build", "--isolation", "chroot", "--tag", bare, tmp_path, timeout=100)
    assert made.returncode == 0, made.stderr
    try:
        done = build(name, BASE=bare)
    finally:
        run("buildah", "rmi", bare)
    assert done.returncode != 0
    assert "image/install: the base has no python3, and drainproxy needs Python 3.11 or newer" in done.stderr


def test_a_base_that_cannot_be_pulled(name):
    """It says which, and what a machine without a registry does."""
    done = build(name, BASE="localhost/no-such-base:none")
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == (
        "image/build: localhost/no-such-base:none is not here and cannot be pulled: name another with BASE=, "
        "or let BASE=debian make one"
    )


def test_the_files_of_the_image_belong_to_root_and_nobody_writes_them():
    """No setuid bit, nothing that user 65532 may change, one date."""
    script = (
        "import os, stat, sys\n"
        "for room, _, files in os.walk('/opt/drainproxy'):\n"
        "    for each in (room, *(os.path.join(room, file) for file in files)):\n"
        "        of = os.lstat(each)\n"
        "        link, bits = stat.S_ISLNK(of.st_mode), 0o022 | stat.S_ISUID | stat.S_ISGID\n"
        "        loose = not link and of.st_mode & bits\n"
        "        if of.st_uid or loose or of.st_mtime: sys.exit(f'{each} {of}')\n"
    )
    podman("run", "--rm", "--network", "none", "--entrypoint", "python3", IMAGE, "-c", script)


def test_what_is_left_out_is_not_there():
    """Neither pip nor a test nor a model of the API: image/left-out is obeyed."""
    lines = [line.split() for line in (ROOT / "image" / "left-out").read_text().splitlines()]
    patterns = [words[1] for words in lines if words and words[0] == "path"]
    assert len(patterns) > 20
    script = (
        "import pathlib, sys\n"
        "site = next(pathlib.Path('/opt/drainproxy').glob('lib/python3*/site-packages'))\n"
        "print(*(each for pattern in sys.argv[1:] for each in site.glob(pattern)))\n"
    )
    found = podman(
        *("run", "--rm", "--network", "none", "--entrypoint", "python3", IMAGE, "-c", script),
        *(*patterns, "pip", "setuptools", "wheel", "pygments"),
    )
    assert found == ""
