"""Make of an installation what a container loads: no more files, no symbols, and nothing missing.

Called by image/install with the directory of a virtual environment, under an interpreter that has `packaging`
(requirements-build.lock). What is left out, and why, is image/left-out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LEFT_OUT = Path(__file__).with_name("left-out")
KEPT_COMMANDS = ("python", "drainproxy")
"""Of bin/: no scripts that activate an environment, no commands of libraries."""


def left_out(kind: str) -> list[str]:
    """Return the names or patterns of image/left-out."""
    lines = (line.split() for line in LEFT_OUT.read_text().splitlines())
    return [words[1] for words in lines if words and words[0] == kind]


def missing(site: Path) -> list[str]:
    """Say what an installed package needs here that is not there: pip was told to resolve nothing."""
    installed = {canonicalize_name(each.name): each for each in distributions(path=[str(site)])}
    known = set(installed) | {canonicalize_name(name) for name in left_out("package")}
    needs = [(name, Requirement(line)) for name, each in installed.items() for line in each.requires or []]
    extras = {(canonicalize_name(wanted.name), extra) for _, wanted in needs for extra in wanted.extras}
    return [
        f"{name} needs {wanted.name}, which requirements.lock does not have for this platform: run make lock"
        for name, wanted in needs
        if canonicalize_name(wanted.name) not in known
        and _applies(wanted, ["", *(extra for whose, extra in extras if whose == name)])
    ]


def _applies(wanted: Requirement, extras: list[str]) -> bool:
    return wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras)


def remove(site: Path) -> None:
    """Delete what image/left-out names, and the commands that nobody runs."""
    for pattern in left_out("path"):
        for each in sorted(site.glob(pattern), reverse=True):
            shutil.rmtree(each) if each.is_dir() else each.unlink(missing_ok=True)
    for each in (site.parents[2] / "bin").iterdir():
        if not each.name.startswith(KEPT_COMMANDS):
            each.unlink()


def strip(site: Path) -> None:
    """Take symbols and debugging information out of extension modules; the loader reads neither."""
    libraries = [str(path) for path in sorted(site.rglob("*.so*")) if not path.is_symlink()]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)  # noqa: S603, S607 - by name, as make does


def main(arguments: list[str]) -> int:
    """Tidy the environment that the only argument names."""
    (site,) = Path(arguments[0]).glob("lib/python3*/site-packages")
    if lacking := missing(site):
        print(*(f"image/tidy.py: {each}" for each in lacking), sep="\n", file=sys.stderr)
        return 1
    remove(site)
    strip(site)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
