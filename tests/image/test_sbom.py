"""The list of what the image is built of: complete, valid, and the same for the same lock file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("cyclonedx", reason="cyclonedx-bom is not installed; make .venv/group-release")


def made(directory: Path) -> bytes:
    """What `make sbom` writes, by its own recipe."""
    recipe = re.search(
        r"^sbom:.*\n\t\$\(BIN\)/cyclonedx-py (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    words = recipe[1].replace("$(SBOM)", str(directory / "sbom.json")).split()
    environment = {**os.environ, "PYTHONHASHSEED": "random", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", *words],
        cwd=ROOT, env=environment, check=False, capture_output=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    return (directory / "sbom.json").read_bytes()


def test_it_holds_what_is_locked_and_its_schema(tmp_path):
    """CycloneDX 1.6; each package of requirements.lock with its version and every hash, and nothing else."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = made(tmp_path).decode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the validator's own libraries
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    listed = json.loads(text)
    assert listed["metadata"]["component"]["name"] == "drainproxy"
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^([\w.-]+)==([^\s;]+)((?:[^\\\n]*\\\n)+.*)", lock, re.MULTILINE)
    locked = {
        (name, version, frozenset(re.findall(r"sha256:(\w+)", rest))) for name, version, rest in entries
    }
    assert len(locked) > 20
    assert {
        (
            each["name"],
            each["version"],
            frozenset(hash_["content"] for of in each["externalReferences"] for hash_ in of["hashes"]),
        )
        for each in listed["components"]
    } == locked
    assert all(each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}" for each in listed["components"])


def test_it_is_the_same_bytes_each_time(tmp_path):
    """No clock, no number by chance: who has the lock file can check the list."""
    (tmp_path / "again").mkdir()
    assert made(tmp_path) == made(tmp_path / "again")


def test_a_release_attests_it():
    """The workflow makes it by the same target, looks for known holes, and binds it to the image's digest."""
    steps = (ROOT / ".github" / "workflows" / "release.yaml").read_text()
    assert re.search(r"^ +make sbom$", steps, re.MULTILINE)
    assert re.search(r"^ +cosign attest --yes --type cyclonedx --predicate sbom.json ", steps, re.MULTILINE)
    assert re.search(r"^ +- run: make audit$", steps, re.MULTILINE)
