"""Compiled or pure: which one runs, and what happens to one that cannot be loaded."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING

import pytest

import drainproxy
from drainproxy import flavour, values

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
SUFFIX = EXTENSION_SUFFIXES[0]
E_MACHINE = slice(18, 20)
ONLY_LOOK = {"_length_bytes", "end", "find", "index", "len", "max", "min", "start"}
"""Calls that may be made twice."""
NOT_NATIVE = {"Enum", "IntEnum", "NamedTuple"}
"""Of those Python makes a class as ever."""

compiled_only = pytest.mark.skipif(flavour.current() != "compiled", reason="pure is installed here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a compiled wheel holds, of one module, with a library that can be loaded."""
    stands_for_it = next(Path(sysconfig.get_path("stdlib"), "lib-dynload").glob(f"*{SUFFIX}"))
    (tmp_path / "modules").write_text("drainproxy.none.such\n")
    for name in (flavour.LIBRARY, "drainproxy_none"):
        (tmp_path / f"{name}{SUFFIX}").write_bytes(stands_for_it.read_bytes())
    return tmp_path


@pytest.fixture
def _finders_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(flavour.PURE, raising=False)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())


def _half_of_it(folder: Path) -> None:
    library = folder / f"{flavour.LIBRARY}{SUFFIX}"
    library.write_bytes(library.read_bytes()[: library.stat().st_size // 2])


def _forty_bytes_of_it(folder: Path) -> None:
    library = folder / f"{flavour.LIBRARY}{SUFFIX}"
    library.write_bytes(library.read_bytes()[:40])


def _nothing_of_it(folder: Path) -> None:
    (folder / f"{flavour.LIBRARY}{SUFFIX}").write_bytes(b"")


def _of_another_python(folder: Path) -> None:
    (folder / f"{flavour.LIBRARY}{SUFFIX}").rename(
        folder / f"{flavour.LIBRARY}.cpython-39-x86_64-linux-gnu.so"
    )


def _of_another_machine(folder: Path) -> None:
    library = folder / f"{flavour.LIBRARY}{SUFFIX}"
    raw = bytearray(library.read_bytes())
    raw[E_MACHINE] = (0xF3).to_bytes(2, sys.byteorder)  # EM_RISCV
    library.write_bytes(raw)


def _a_room_is_no_library(folder: Path) -> None:
    (folder / f"drainproxy_none{SUFFIX}").write_bytes(b"#!/bin/sh\n")


def _a_room_is_missing(folder: Path) -> None:
    (folder / f"drainproxy_none{SUFFIX}").unlink()


def _the_list_is_missing(folder: Path) -> None:
    (folder / "modules").unlink()


@pytest.mark.usefixtures("_finders_restored")
@pytest.mark.parametrize(
    "spoil",
    [
        _half_of_it, _forty_bytes_of_it, _nothing_of_it, _of_another_python, _of_another_machine,
        _a_room_is_no_library, _a_room_is_missing, _the_list_is_missing,
    ],
)  # fmt: skip
def test_what_cannot_be_loaded_is_left_alone_with_one_line(
    folder: Path, spoil: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """Another interpreter, another machine, half a file: the sources are used, and one line says why."""
    spoil(folder)
    before = sys.meta_path.copy()
    flavour.choose(folder)
    assert sys.meta_path == before
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("drainproxy: the pure modules are used, the compiled ones cannot be loaded: ")


@pytest.mark.usefixtures("_finders_restored")
def test_what_can_be_loaded_is_found_first(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The finder knows the modules of the list, the library behind them, and no others."""
    flavour.choose(folder)
    finder = sys.meta_path[0]
    assert isinstance(finder, flavour.Finder)
    found = finder.find_spec("drainproxy.none.such", None)
    assert found is not None
    assert found.origin == str(folder / f"drainproxy_none{SUFFIX}")
    assert finder.find_spec("drainproxy.app", None) is None
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("_finders_restored")
def test_where_nothing_was_compiled_nothing_is_said(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A pure wheel, and a compiled one that is told not to be (`DRAINPROXY_PURE`)."""
    before = sys.meta_path.copy()
    flavour.choose(tmp_path / "none")
    for yes in ("1", "true", "Yes", "on"):
        monkeypatch.setenv(flavour.PURE, yes)
        flavour.choose(folder)
    assert sys.meta_path == before
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("_finders_restored")
@pytest.mark.parametrize("no", ["", *(word for word, on in values._SWITCH.items() if not on)])
def test_a_switch_that_is_off_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, no: str) -> None:
    """As any other switch is written: a chart's `false` is no wish for the sources."""
    monkeypatch.setenv(flavour.PURE, no.title())
    flavour.choose(folder)
    assert isinstance(sys.meta_path[0], flavour.Finder)


def test_the_switch_is_no_unknown_setting() -> None:
    """`DRAINPROXY_PURE` begins as settings do, and is none."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "drainproxy", "config", "--check"],
        env={
            **os.environ,
            "DRAINPROXY_PURE": "1",
            "DRAINPROXY_LISTEN": ":1",
            "DRAINPROXY_UPSTREAM": "http://127.0.0.1:2",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "DRAINPROXY_PURE" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr


@compiled_only
def test_one_install_is_either() -> None:
    """`version` says which, and the environment chooses."""
    said = {
        pure: subprocess.run(
            [sys.executable, "-P", "-m", "drainproxy", "version"],
            env={**os.environ, flavour.PURE: pure},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for pure in ("", "1")
    }
    assert ", compiled, on Python" in said[""]
    assert ", pure, on Python" in said["1"]


@compiled_only
def test_every_room_is_compiled() -> None:
    """What the list names is what this test process has imported, of the library and not of the sources."""
    from drainproxy.proxy.http1 import connection, exchange

    assert all(module.__file__ and module.__file__.endswith(SUFFIX) for module in (connection, exchange))


def test_nothing_of_the_sources_inherits_from_what_is_compiled() -> None:
    """It would be refused when the first one is made, and not before: a caller would find out."""
    sealed = _sealed()
    heirs = {
        f"{module}.{kind.__qualname__}"
        for module in _all_modules()
        for kind in vars(import_module(module)).values()
        if isinstance(kind, type) and kind.__module__ == module and module not in sealed
        if any(base.__module__ in sealed for base in kind.__mro__)
    }
    assert "drainproxy.proxy.downstream.unfinished" in sealed
    assert not heirs


def test_nothing_compiled_inherits_from_a_class_of_pythons() -> None:
    """mypyc gives such an object room for weak references, and frees them in their owners' hands."""
    classes = [
        (path, part)
        for path in _compiled_sources()
        for part in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(part, ast.ClassDef)
    ]
    compiled = {kind.name for _, kind in classes}
    found = {
        f"{path}:{kind.lineno}: {kind.name}({', '.join(bases)})"
        for path, kind in classes
        if (bases := [ast.unparse(base).partition("[")[0] for base in kind.bases])
        # A Protocol is nobody's class, whatever else it asks for.
        if "Protocol" not in bases and not set(bases) <= compiled | NOT_NATIVE
    }
    assert "ClientConnection" in compiled
    assert not found


@compiled_only
def test_there_is_no_weak_reference_to_a_compiled_object() -> None:
    """Refused, and not freed in somebody's hands: it is what test_nothing_compiled_inherits is for."""
    native = [
        kind
        for module in map(import_module, _sealed())
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and "__mypyc_attrs__" in vars(kind)
        if not vars(kind).get("_is_protocol")
    ]
    assert len(native) > 50
    assert not {kind.__qualname__ for kind in native if kind.__weakrefoffset__ or kind.__dictoffset__}


def test_nothing_compiled_sees_to_its_attributes_by_itself() -> None:
    """mypyc does not ask for what `__init__` sets first: a table lost `build_info` and four others."""
    hooks = {"__setattr__", "__delattr__", "__getattr__", "__getattribute__"}
    found = {
        f"{path}:{part.lineno}: {part.name}"
        for path in _compiled_sources()
        for part in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(part, ast.FunctionDef) and part.name in hooks
    }
    assert not found


def test_no_bound_of_a_slice_does_anything() -> None:
    """mypyc works it out twice where it does not know what is sliced: TLS sent every byte two times."""
    found = {
        f"{path}:{part.lineno}: {ast.unparse(part)}"
        for path in _compiled_sources()
        for part in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(part, ast.Slice)
        for call in ast.walk(part)
        if isinstance(call, ast.Await | ast.NamedExpr)
        or (isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] not in ONLY_LOOK)
    }
    assert not found


def test_what_does_not_change_is_not_looked_up() -> None:
    """mypyc reads a Final constant where it lies, and looks for any other by name, at every use. A tuple is
    none without a type of any length: mypyc makes a struct of it, and one of floats counted as unset."""
    found = set()
    for path in _compiled_sources():
        for line in ast.parse((ROOT / path).read_text()).body:
            if isinstance(line, ast.Assign) and len(line.targets) == 1:
                name, declared = ast.unparse(line.targets[0]), ""
            elif isinstance(line, ast.AnnAssign):
                name, declared = ast.unparse(line.target), ast.unparse(line.annotation)
            else:
                continue
            wants = "" if isinstance(line.value, ast.Tuple) else "Final"
            fits = declared.partition("[")[0] == wants or declared.startswith("Final[tuple[")
            if name.isupper() and name.isidentifier() and not fits:
                found.add(f"{path}:{line.lineno}: {ast.unparse(line)}")
    assert not found


def _compiled_sources() -> list[str]:
    pytest.importorskip("hatchling")
    described = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert described is not None
    assert described.loader is not None
    build = module_from_spec(described)
    described.loader.exec_module(build)
    sources: list[str] = build.sources(ROOT)
    return sources


def _sealed() -> set[str]:
    return {path.removesuffix(".py").replace("/", ".") for path in _compiled_sources()}


def _all_modules() -> list[str]:
    found = (one.name for one in walk_packages(drainproxy.__path__, "drainproxy."))
    return [name for name in found if not name.endswith("__main__") and ".compiled" not in name]


@compiled_only
def test_a_defect_in_a_compiled_room_names_file_and_line() -> None:
    """As in the sources: whoever reads a log of a compiled proxy finds the place."""
    import traceback

    from drainproxy.proxy.message.parser import tokens

    with pytest.raises(TypeError) as caught:
        tokens(None)  # type: ignore[arg-type]
    frame = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert frame.filename == "drainproxy/proxy/message/parser.py"
    line = (ROOT / frame.filename).read_text().splitlines()[(frame.lineno or 0) - 1]
    assert line.startswith("def tokens(")
