"""Is a kubeconfig one? What is wrong with it, in a sentence that names the file and what to look at.

Also which namespace one of its contexts means.

The library that reads it stops at the first thing that it does not expect, with that thing's name at most.
Reads the files; called by access.py before the library does, and by the command line.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from drainproxy.kube.settings import KubeSettings

MAX_BYTES = 4 * 1024 * 1024


class _Bad(Exception):
    """A file is no kubeconfig; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalSettings(KubeSettings):
    """The way to a cluster as a person chooses it. No pod has a choice."""

    context: str | None = None
    """Of the kubeconfig; None: its current one."""


def problem(files: str, context: str | None = None) -> str:
    """Say what is wrong with a kubeconfig, or with several that are joined by colons; empty if nothing is."""
    try:
        there, merged = _merged(files)
    except _Bad as bad:
        return str(bad)
    return next((f"{there}: {why}" for why in _wrong(merged, context)), "")


def namespace(files: str, context: str | None = None) -> str:
    """Return the namespace that a context means; empty where it names none, or is none."""
    try:
        _, merged = _merged(files)
    except _Bad:
        return ""
    chosen = _named(merged, "contexts", context or merged.get("current-context"), "context") or {}
    return str(chosen.get("namespace") or "")


def _merged(files: str) -> tuple[str, dict[str, Any]]:
    """Return which files there are, and what they say together. Raises _Bad."""
    names = [name for name in files.split(os.pathsep) if name]
    there = [name for name in names if Path(name).exists()]
    if not there:
        raise _Bad(f"{' and '.join(names) or 'the kubeconfig'}: there is no such file")
    merged: dict[str, Any] = {}
    for name in there:
        try:
            document = _read(Path(name))
        except (OSError, ValueError, RecursionError) as error:
            why = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
            raise _Bad(f"{name} is no kubeconfig: {why}") from None
        # The first that says something wins; lists are joined (kubectl: Merging kubeconfig files).
        for key, value in document.items():
            if isinstance(value, list):
                merged[key] = [*merged.get(key, ()), *value]
            else:
                merged[key] = merged.get(key) or value
    return ", ".join(there), merged


def _read(path: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - a pod has no kubeconfig

    with path.open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError("it is too large")
    try:
        document = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ValueError(f"it is not YAML: line {line}: {error.problem}") from None
    except yaml.YAMLError:
        raise ValueError("it is not YAML") from None
    if document is None:
        raise ValueError("it is empty")
    if not isinstance(document, dict):
        raise ValueError("it is not made of `name: value` lines")  # noqa: TRY004 - of the file
    for key in ("clusters", "contexts", "users"):
        entries = document.get(key) or []
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
            raise ValueError(f"its {key} are no list of entries")
    return document


def _wrong(merged: dict[str, Any], wanted: str | None) -> Iterator[str]:
    current = wanted or merged.get("current-context")
    if not current:
        yield "no current-context is set; choose one with kubectl config use-context"
        return
    context = _named(merged, "contexts", current, "context")
    if context is None:
        known = ", ".join(str(each.get("name")) for each in merged.get("contexts") or ()) or "none"
        what = f"there is no context {current}" if wanted else f"its current-context {current} is no context"
        yield f"{what} (there are: {known})"
        return
    cluster = _named(merged, "clusters", context.get("cluster"), "cluster")
    if cluster is None:
        yield f"context {current} names cluster {context.get('cluster')}, which is not there"
        return
    server = cluster.get("server")
    if not isinstance(server, str) or not _is_url(server):
        yield f"cluster {context.get('cluster')} has no server such as https://HOST:6443"
    user = _named(merged, "users", context.get("user"), "user")
    if user is None:
        yield f"context {current} names user {context.get('user')}, who is not there"


def _named(merged: dict[str, Any], key: str, name: Any, inner: str) -> dict[str, Any] | None:
    for each in merged.get(key) or ():
        if each.get("name") == name:
            found = each.get(inner)
            return found if isinstance(found, dict) else {}
    return None


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
