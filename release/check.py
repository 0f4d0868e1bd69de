"""Stop a release whose tag is not what the project says of itself: `python release/check.py v1.2.3`.

Program, chart, library chart, the sidecar's default image and the changelog name one version, and the
changelog's section has a date and says something. `--unreleased` is for a rehearsal: there the section may
still be called so. Called by the workflow and by rehearse.py.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHART = "helm/drainproxy/Chart.yaml"
LIBRARY = "helm/drainproxy/charts/drainproxy-library/Chart.yaml"
SIDECAR = "helm/drainproxy/charts/drainproxy-library/templates/_sidecar.tpl"
PLACES = (
    ("drainproxy/__init__.py", "__version__", r'^__version__ = "(.+)"$'),
    (CHART, "version", r"^version: (\S+)$"),
    (CHART, "appVersion", r'^appVersion: "?([^"\s]+)"?$'),
    (CHART, "the version of drainproxy-library", r"^  - name: drainproxy-library\n    version: (\S+)$"),
    (LIBRARY, "version", r"^version: (\S+)$"),
    (SIDECAR, "the image", r'^  "image" "drainproxy:(.+)"$'),
    ("Dockerfile", "VERSION", r"^ARG VERSION=(.+)$"),
)
"""A file, what in it has the version, and the version."""


def problems(tag: str, *, root: Path = ROOT, unreleased: bool = False) -> list[str]:
    """Return a sentence for each thing that is not as the tag says."""
    if not re.fullmatch(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", tag):
        return [f"{tag} is no version: a tag is v1.2.3 or v1.2.3-rc.1"]
    version = tag[1:]
    found = []
    for file, name, pattern in PLACES:
        match = re.search(pattern, (root / file).read_text(), re.MULTILINE)
        said = match[1] if match else "nothing"
        if said != version:
            found.append(f"{file}: {name} is {said}, and the tag says {version}")
    return found + _changes(version, (root / "CHANGELOG.md").read_text(), unreleased)


def _changes(version: str, text: str, unreleased: bool) -> list[str]:
    name, _, section = text.partition("\n## ")[2].partition("\n")
    if unreleased and name == "Unreleased":
        name = f"{version} - 2000-01-01"
    says = re.split(r"^## ", section, maxsplit=1, flags=re.MULTILINE)[0]
    if not re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", name):
        return [f"CHANGELOG.md: the first section is {name}, and not {version} - YYYY-MM-DD"]
    return [] if re.search(r"^- ", says, re.MULTILINE) else [f"CHANGELOG.md: nothing is said of {version}"]


def main(arguments: list[str]) -> int:
    """Print what is wrong; return 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag")
    parser.add_argument("--unreleased", action="store_true", help="the changelog may still say Unreleased")
    options = parser.parse_args(arguments)
    found = problems(options.tag, unreleased=options.unreleased)
    print(*(f"release: {each}" for each in found), sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
