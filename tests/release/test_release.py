"""A release stops where its tag, the changelog and the chart differ; what it pushes is what was built."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image.engine import IMAGE, ROOT

RELEASE = ROOT / "release"
DIGEST = "sha256:" + "0" * 64
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "drainproxy/__init__.py").read_text(), re.MULTILINE)[1]


def load(name: str):
    """A script of release/ as a module."""
    spec = importlib.util.spec_from_file_location(f"release_{name}", RELEASE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = load("check")


@pytest.fixture
def checkout(tmp_path):
    """What a release reads, with a changelog of today."""
    for file in {file for file, _, _ in check.PLACES}:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## {VERSION} - 2030-01-31\n\n### Added\n\n- All.\n"
    )
    return tmp_path


def test_a_tag_that_everything_agrees_with(checkout):
    """Nothing stops it."""
    assert check.problems(f"v{VERSION}", root=checkout) == []


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2", "v1.2.3 ", "release-1.2.3", "v1.2.3-"])
def test_a_tag_that_is_no_version(checkout, tag):
    """It is told what one looks like."""
    assert check.problems(tag, root=checkout) == [f"{tag} is no version: a tag is v1.2.3 or v1.2.3-rc.1"]


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, name, _ in check.PLACES])
def test_each_place_that_has_a_version(checkout, file, name):
    """One that was forgotten is named, with what it says and what the tag says."""
    pattern = next(each[2] for each in check.PLACES if each[:2] == (file, name))
    text = (checkout / file).read_text()
    at = re.search(pattern, text, re.MULTILINE)
    (checkout / file).write_text(text[: at.start(1)] + "9.9.9" + text[at.end(1) :])
    found = check.problems(f"v{VERSION}", root=checkout)
    assert found == [f"{file}: {name} is 9.9.9, and the tag says {VERSION}"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("## Unreleased\n\n- All.\n", f"the first section is Unreleased, and not {VERSION} - YYYY-MM-DD"),
        (f"## {VERSION}\n\n- All.\n", f"the first section is {VERSION}, and not {VERSION} - YYYY-MM-DD"),
        (
            "## 9.9.9 - 2030-01-31\n\n- All.\n",
            f"the first section is 9.9.9 - 2030-01-31, and not {VERSION} - YYYY-MM-DD",
        ),
        (f"## {VERSION} - 2030-01-31\n\n## 0.0.1 - 2029-01-31\n\n- Old.\n", f"nothing is said of {VERSION}"),
        ("", f"the first section is , and not {VERSION} - YYYY-MM-DD"),
    ],
)
def test_a_changelog_that_does_not_say_it(checkout, text, sentence):
    """The first section is the version's, has its date, and at least one line."""
    (checkout / "CHANGELOG.md").write_text(f"# Changelog\n\n{text}")
    assert check.problems(f"v{VERSION}", root=checkout) == [f"CHANGELOG.md: {sentence}"]


def test_the_command_stops_a_release():
    """The workflow's first step exits 1 for a tag of another version, and says where it is not said."""
    done = subprocess.run(
        [sys.executable, RELEASE / "check.py", "v99.0.0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert (
        f"release: drainproxy/__init__.py: __version__ is {VERSION}, and the tag says 99.0.0" in done.stderr
    )


def test_this_checkout_could_be_released():
    """But for the name of the changelog's section, which gets its version at the release."""
    assert check.problems(f"v{VERSION}", unreleased=True) == []


@pytest.mark.parametrize("image", ["shop", "shop:1", "shop@sha256:0", f"shop@{DIGEST}0"])
def test_a_chart_is_bound_to_a_digest(image):
    """An image by tag alone may be another one tomorrow."""
    pytest.importorskip("helm_python", reason="helm-python-sdk is not installed; make .venv/group-release")
    values = (ROOT / "helm" / "drainproxy" / "values.yaml").read_text()
    with pytest.raises(ValueError, match="has no digest: write REPOSITORY@sha256:"):
        load("chart").bound(values, image)


def test_a_packaged_chart_runs_the_image_that_was_pushed(tmp_path):
    """Its version is the tag's, and every container is the digest's."""
    helm = pytest.importorskip(
        "helm_python", reason="helm-python-sdk is not installed; make .venv/group-release"
    )
    archive = load("chart").package("7.8.9", f"ghcr.io/shop/drainproxy@{DIGEST}", tmp_path)
    assert archive.name == "drainproxy-7.8.9.tgz"
    with helm.Chart.load_archive(archive.read_bytes()) as chart:
        assert chart.version == "7.8.9"
        rendered = chart.render({"injection": {"mode": "webhook"}}, name="drainproxy", namespace="drainproxy")
    images = set(re.findall(r"image: \"?(\S+?)\"?$", "\n".join(rendered.values()), re.MULTILINE))
    assert images == {f"ghcr.io/shop/drainproxy@{DIGEST}"}


DOCKER = """#!/bin/sh
echo "$@" >>"$SAID"
while [ $# -gt 0 ]; do
  if [ "$1" = --metadata-file ]; then echo '{"containerimage.digest": "sha256:0"}' >"$2"; fi
  shift
done
"""


def test_a_release_builds_for_two_architectures_and_pushes(tmp_path):
    """By docker's buildx, with provenance and SBOM, one date, and a file that has the digest."""
    said, metadata = tmp_path / "said", tmp_path / "image.json"
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SAID": str(said), "ENGINE": "docker"}
    command = (ROOT / "image" / "build", "ghcr.io/shop/drainproxy:1.2.3", "--push", metadata)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    build = said.read_text().splitlines()[-1]
    for words in (
        "buildx build --platform linux/amd64,linux/arm64 --provenance mode=max --sbom true",
        "--output type=image,push=true,rewrite-timestamp=true",
        "--build-arg SOURCE_DATE_EPOCH=0",
        "--tag ghcr.io/shop/drainproxy:1.2.3",
        f"--build-arg VERSION={VERSION}",
        "--build-arg COMPILE=must",
    ):
        assert words in build
    assert json.loads(metadata.read_text())["containerimage.digest"] == "sha256:0"


def test_other_engines_do_not_push_for_two():
    """It is said, and nothing is built."""
    if not shutil.which("buildah"):
        pytest.skip("buildah is not installed")
    command = (ROOT / "image" / "build", "shop", "--push", "/nowhere")
    environment = {**os.environ, "ENGINE": "buildah"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "image/build: two architectures need docker with buildx, and not buildah"
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_rehearsal_ends_with_what_a_user_pulls():
    """`make release-rehearsal`: chart and image come back by digest from loopback, and the image starts."""
    if not IMAGE:
        pytest.skip("make image-test runs it, with an image that it has built")
    done = subprocess.run(
        [sys.executable, RELEASE / "rehearse.py"],
        env={**os.environ, "BASE": "debian"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[-1] == "release-rehearsal: good"
    assert re.search(r"pushed 127\.0\.0\.1:\d+/drainproxy@sha256:", done.stdout)
    assert re.search(r"pushed 127\.0\.0\.1:\d+/charts/drainproxy@sha256:", done.stdout)
    assert f"pulled it back by digest, started and drained it: drainproxy {VERSION}" in done.stdout
    assert "pulled it back by digest and rendered" in done.stdout
    wheel = rf"compiled drainproxy-{VERSION}-cp\S+manylinux\S+\.whl, \d+ bytes"
    assert re.search(rf"{wheel}; pip takes it: drainproxy \S+ compiled, on Python", done.stdout)


def test_a_rehearsal_says_what_is_missing(tmp_path):
    """A machine without a registry is told which package has one."""
    pytest.importorskip("helm_python", reason="helm-python-sdk is not installed; make .venv/group-release")
    done = subprocess.run(
        [sys.executable, RELEASE / "rehearse.py"],
        env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "release-rehearsal: docker-registry and buildah and podman and make must be installed; "
        "Debian has packages of these names\n"
    )
    assert Path(sys.executable).exists()
