"""Package the chart for one image, and push it: `python release/chart.py v1.2.3 REPOSITORY@sha256:... oci://CHARTS`.

What is pushed installs that very image: repository and digest become the chart's defaults, in a copy. Prints
NAME@DIGEST of what was pushed. `--plain-http` is for a registry on loopback. Called by the workflow and by
rehearse.py; needs the group `release` of pyproject.toml.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

import helm_python as helm

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "drainproxy"


def bound(text: str, image: str) -> str:
    """Return values.yaml with the image's repository and digest. Raises ValueError where it has none."""
    repository, at, digest = image.partition("@")
    if not at or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise ValueError(f"{image} has no digest: write REPOSITORY@sha256:...")
    for old, new in (
        ("  repository: drainproxy\n", f"  repository: {repository}\n"),
        ('  digest: ""\n', f'  digest: "{digest}"\n'),
    ):
        if text.count(old) != 1:
            raise ValueError(f"values.yaml does not have {old.strip()} once")
        text = text.replace(old, new)
    return text


def package(version: str, image: str, into: Path) -> Path:
    """Write the archive into a directory; return its path."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "drainproxy"
        shutil.copytree(CHART, copy)
        values = copy / "values.yaml"
        values.write_text(bound(values.read_text(), image))
        return Path(helm.package(copy, destination=into, version=version, app_version=version))


def push(archive: Path, version: str, charts: str, *, plain_http: bool = False) -> str:
    """Push an archive; return its name in the registry, by digest."""
    with helm.RegistryClient(plain_http=plain_http) as client:
        client.push(archive, charts, plain_http=plain_http)
        digest = client.resolve(f"{charts}/drainproxy:{version}")["digest"]
    return f"{charts.removeprefix('oci://')}/drainproxy@{digest}"


def main(arguments: list[str]) -> int:
    """Package and push."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag")
    parser.add_argument("image", help="REPOSITORY@sha256:...")
    parser.add_argument("charts", help="oci://HOST/PATH")
    parser.add_argument("--plain-http", action="store_true", help="for a registry on loopback")
    parser.add_argument("--keep", type=Path, default=Path(), help="directory for the archive")
    options = parser.parse_args(arguments)
    version = options.tag.removeprefix("v")
    try:
        archive = package(version, options.image, options.keep)
        print(push(archive, version, options.charts, plain_http=options.plain_http))
    except (ValueError, helm.HelmError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
