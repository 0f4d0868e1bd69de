"""Is what runs here compiled, or pure?

A compiled wheel holds `drainproxy/compiled`, made of the sources beside it (hatch_build.py), which are all
there too: who does not call `choose`, or cannot load it, runs those, and the difference is what a request
costs. __main__.py calls it, before anything that is compiled is imported.
"""

from __future__ import annotations

import os
import struct
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

PURE = "DRAINPROXY_PURE"
"""In the environment: the sources are to run, whatever there is beside them."""
NO = frozenset({"", "0", "false", "no", "off"})
"""What a switch says that is off (values.py)."""

FOLDER = Path(__file__).with_name("compiled")
SUFFIX = EXTENSION_SUFFIXES[0]
LIBRARY = "drainproxy__mypyc"
"""All of it; what is imported is a door to a part. Those of one folder are in one file (PEP 489)."""


class Finder:
    """Of compiled modules, on `sys.meta_path`."""

    def __init__(self, folder: Path) -> None:
        """Raises ImportError or OSError where anything in it cannot be loaded here."""
        self._files = {LIBRARY: folder / f"{LIBRARY}{SUFFIX}"}
        for module in (folder / "modules").read_text().split():
            self._files[module] = folder / f"{module.rpartition('.')[0].replace('.', '_')}{SUFFIX}"
        if not self._files[LIBRARY].exists():
            raise ImportError(f"it is for another Python than {SUFFIX.split('.')[1]}")
        import ctypes  # noqa: PLC0415 - where there is something to load

        for file in set(self._files.values()):
            # All of them, and now: half of it would be no flavour.
            _whole(file)
            ctypes.CDLL(str(file))

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See importlib.abc.MetaPathFinder."""
        file = self._files.get(name)
        if file is None:
            return None
        return spec_from_file_location(name, file, loader=ExtensionFileLoader(name, str(file)))


def _whole(file: Path) -> None:
    """Raise ImportError for a library whose end is missing: the linker would read on there, and be killed."""
    with file.open("rb") as library:
        head = library.read(64)
    if head[:5] != b"\x7fELF\x02":
        return  # the linker says what is wrong with it
    # The table of sections comes last (elf(5): e_shoff, e_shentsize, e_shnum).
    at, size, count = struct.unpack_from(f"{'<' if head[5] == 1 else '>'}40xQ10xHH", head.ljust(64, b"\0"))
    if file.stat().st_size < max(64, at + size * count):
        raise ImportError(f"{file.name} is not whole")


def choose(folder: Path = FOLDER) -> None:
    """Have what is compiled imported, where it is there and can be."""
    if not folder.is_dir() or os.environ.get(PURE, "").lower() not in NO:
        return
    try:
        sys.meta_path.insert(0, Finder(folder))
    except (ImportError, OSError) as why:
        sys.stderr.write(
            f"drainproxy: the pure modules are used, the compiled ones cannot be loaded: {why}\n"
        )


def current() -> Literal["compiled", "pure"]:
    """Return what runs here."""
    spec = find_spec("drainproxy.metrics")
    return "compiled" if spec is not None and isinstance(spec.loader, ExtensionFileLoader) else "pure"
