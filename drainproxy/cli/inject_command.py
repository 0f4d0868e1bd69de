"""`drainproxy inject`: YAML in, YAML with sidecars out, and what somebody should know on standard error.

Reads the files, and leaves every decision to injector/manifest.py. Called by main.py.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from drainproxy.cli import explain
from drainproxy.errors import ConfigError
from drainproxy.injector import manifest
from drainproxy.injector.patch import InjectorDefaults
from drainproxy.log import plain

EXIT_REFUSED = 1
STANDARD_INPUT = "-"


def run(
    files: Sequence[str],
    stray: Sequence[str],
    defaults: InjectorDefaults,
    *,
    every: bool,
    check: bool,
    services: bool,
) -> int:
    """Print what to apply, or with `check` what would change; return the exit code. Raises ConfigError."""
    if stray:
        named = " ".join(f"-f {name}" for name in (*files, *stray))
        raise ConfigError([f"{' '.join(stray)}: a file is named with -f; write drainproxy inject {named}"])
    names = files or [STANDARD_INPUT]
    if names.count(STANDARD_INPUT) > 1:
        raise ConfigError(["-f - stands twice, and standard input can be read once"])
    texts = [("" if name == STANDARD_INPUT else name, _read(name)) for name in names]
    stream = manifest.read(texts, defaults, every=every, services=services)
    refused = any(each.refusal for each in stream.workloads)
    if check:
        explain.show_injection(stream, names)
        changes = any(finding.bypasses or finding.cuts_off for _, finding in stream.findings)
        return EXIT_REFUSED if refused or changes else 0
    sys.stdout.buffer.write(_encoded(_joined(stream.documents)))
    for line in explain.injection_in_words(stream):
        print(f"drainproxy: {plain(line)}", file=sys.stderr)
    return EXIT_REFUSED if refused else 0


def _read(name: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if name == STANDARD_INPUT else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError([f"{name}: {getattr(error, 'strerror', None) or error}"]) from None
    # Whatever is no UTF-8 passes as the bytes that it is, and no line ending is lost.
    return raw.decode(errors="surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _joined(documents: Iterable[manifest.Document]) -> str:
    """Return the documents as one stream: where another file begins, so does a document."""
    text, file = "", None
    for document in documents:
        if file not in (None, document.file) and not document.before.startswith("---"):
            text += "" if text.endswith("\n") else "\n"
            text += "" if text.endswith("\n---\n") else "---\n"
        elif file not in (None, document.file) and text and not text.endswith("\n"):
            text += "\n"
        text += document.after
        file = document.file
    return text
