"""Builds the wheel: pure, as its sources are, or with the hot rooms compiled by mypyc beside them.

Hatchling calls `CompiledRooms`, which compiles where DRAINPROXY_COMPILE is set; without a compiler the wheel
is pure, and says so in one line. `python hatch_build.py`, of `make check`, goes as far as C and no further.
drainproxy/flavour.py loads what is made here: decision 0023.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from setuptools import Extension

ASKED = "DRAINPROXY_COMPILE"
NEEDS = ["mypy>=2.4", "setuptools>=77"]

ROOMS = ("accounting", "downstream", "http1", "http2", "limits", "message", "relay", "upstream", "wire")
"""Of the data plane: what a request goes through."""
FILES = (
    "lifecycle/inflight.py", "lifecycle/lazytimer.py", "lifecycle/snapshot.py",
    "metrics.py",
    "proxy/plane.py",
    "proxy/preamble.py",
)  # fmt: skip
"""What they ask at every one, and what inherits from it: nothing of the sources can."""
PURE = {
    "proxy/accounting/tracing.py": "its classes are of a library that few pods load",
    "proxy/http2/faults.py": "exceptions",
    "proxy/http2/inspection.py": "few pods load it",
    "proxy/limits/routes.py": "the manual is made of what its fields are annotated with, which mypyc forgets",
    "proxy/message/http2_preface.py": "an exception",
    "proxy/wire/listening_socket.py": "its class is one of Python's own socket",
    "proxy/wire/selector.py": "its class is one of Python's own selector",
    "proxy/wire/small_reads.py": "its class is one of asyncio, which asks what it is",
}
"""What inherits from Python's classes is of the sources, exceptions too: decision 0023 has the reason."""

LIBRARY = "drainproxy"
"""All that is compiled is in one library, so that the rooms call one another directly."""


def sources(root: Path) -> list[str]:
    """Return what is compiled, relative to `root`."""
    package = root / "drainproxy"
    found = [path for room in ROOMS for path in sorted((package / "proxy" / room).glob("*.py"))]
    found += [package / name for name in FILES]
    left_out = {package / name for name in PURE}
    if missing := [str(path) for path in [*left_out, *found] if not path.is_file()]:
        raise FileNotFoundError(f"no longer there: {', '.join(missing)}")
    hot = [path for path in found if path.name != "__init__.py" and path not in left_out]
    return [str(path.relative_to(root)) for path in hot]


def to_c(root: Path, work: Path) -> list[Extension]:
    """Have mypyc write C into `work`; return the library, and a door for each module. Exits where it cannot.

    Whether the types hold, `make check` knows: libraries need not be here for that.
    """
    from mypyc.build import mypycify  # noqa: PLC0415 - where it is asked for, and nowhere else

    options = ["--config-file=", "--ignore-missing-imports", f"--cache-dir={work / 'types'}"]
    before = Path.cwd()
    os.chdir(root)  # what a traceback shows of a file is its name from here
    try:
        return mypycify(
            [*options, *sources(root)],
            group_name=LIBRARY,
            target_dir=str(work),
            multi_file=True,
            opt_level="3",
            debug_level="0",
        )
    finally:
        os.chdir(before)


def compile_rooms(root: Path, work: Path) -> Path:
    """Return a directory in `work` with the compiled library, its doors and a list of its modules."""
    _look_for_tools()
    from setuptools import Distribution, Extension  # noqa: PLC0415 - as above
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    class Build(build_ext):
        """Compiles several files at once, which setuptools does for no more than one a library."""

        def build_extensions(self) -> None:
            one_by_one = self.compiler.compile

            def at_once(files: list[str], **options: Any) -> list[str]:
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    return list(chain(*pool.map(lambda file: one_by_one([file], **options), files)))

            self.compiler.compile = at_once
            super().build_extensions()

    library, *doors = to_c(root, work)
    # Where it was compiled is not in what was: two builds of one commit are one wheel, and one image.
    library.extra_compile_args += [f"-ffile-prefix-map={work}=."]
    extensions = [library]
    for folder, of_folder in groupby(sorted(doors, key=_folder), key=_folder):
        # One file for a folder's doors (PEP 489): as files of their own they are 1.4 MB more of memory.
        file = work / f"{folder}.c"
        file.write_text("".join(_included(number, door) for number, door in enumerate(of_folder)))
        name = folder.replace(".", "_")
        extensions.append(Extension(name, [str(file)], extra_compile_args=library.extra_compile_args))
    made = work / "compiled"
    command = Build(Distribution({"name": LIBRARY, "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(made), str(work / "objects")
    command.ensure_finalized()
    command.run()
    (made / "modules").write_text("".join(f"{door.name}\n" for door in doors))
    return made


def _look_for_tools() -> None:
    """Raise FileNotFoundError where C cannot be compiled: before mypyc, which takes a while."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise FileNotFoundError(f"there is no C compiler {compiler}")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        raise FileNotFoundError(f"there is no {header}")


def _folder(door: Extension) -> str:
    return door.name.rpartition(".")[0]


def _included(number: int, door: Extension) -> str:
    # mypyc has each door define this one function more, for a linker that is not ours.
    (file,) = door.sources
    return f'#define PyInit___init__ door_{number}\n#include "{file}"\n#undef PyInit___init__\n'


class CompiledRooms(BuildHookInterface[Any]):
    """Of a wheel: a directory `drainproxy/compiled`, and the tag of who can load it."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return what compiling needs: nothing where nobody has asked for it."""
        return NEEDS if self._asked(self.target_name) else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and have the result packed."""
        if not self._asked(self.target_name) or version == "editable":
            return
        self._work = tempfile.TemporaryDirectory(prefix="drainproxy-")
        try:
            made = compile_rooms(Path(self.root), Path(self._work.name))
        except (Exception, SystemExit) as why:  # whatever it is, the sources are there, and do the same
            self.app.display_warning(f"drainproxy is pure here, since it could not be compiled: {why}")
            return
        build_data["pure_python"], build_data["infer_tag"] = False, True
        build_data["force_include"][str(made)] = "drainproxy/compiled"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        if (work := getattr(self, "_work", None)) is not None:
            work.cleanup()

    @staticmethod
    def _asked(target: str) -> bool:
        return target == "wheel" and os.environ.get(ASKED, "") not in {"", "0"}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        to_c(Path(__file__).parent, Path(directory))
