"""What a container's environment and flags mean to drainproxy, and what of it cannot be known from outside.

Pure. What comes from files of the pod, from ConfigMaps and from Secrets is not guessed: whoever judges it is
told where it comes from. Called by check_command.py and verdicts.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from drainproxy import config
from drainproxy.errors import ConfigError
from drainproxy.proxy import transport_settings
from drainproxy.settings import PREFIX, table

FILES = frozenset(
    {"config", "routes", "tls_certificate", "tls_key", "tls_client_ca"}
    | {"upstream_ca", "upstream_certificate", "upstream_key"}
)
"""Settings that name files of the pod, which are not here."""

_SOMEWHERE = {"status.podIP": "192.0.2.1", "status.podIPs": "192.0.2.1", "status.hostIP": "192.0.2.2"}
"""Of a pod that does not run (RFC 5737)."""
_SOURCES = {
    "configMapKeyRef": "ConfigMap",
    "configMapRef": "ConfigMap",
    "secretKeyRef": "Secret",
    "secretRef": "Secret",
    "fileKeyRef": "a file of volume",
}
_REFERENCE = re.compile(r"\$\$|\$\(([^()$]+)\)")


@dataclass(slots=True)
class Unknown:
    """Settings whose values are not to be seen from outside."""

    settings: dict[str, str] = field(default_factory=dict)
    """And where each comes from."""
    anything: str = ""
    """Where whatever nothing else sets may come from."""
    given: set[str] = field(default_factory=set)
    """What is set in plain sight."""

    def among(self, *needed: str) -> str:
        """Say which of these settings is unknown; empty where all are known."""
        for name in needed:
            if name in self.settings:
                return f"{name} comes from {self.settings[name]}"
            if self.anything and name not in self.given:
                return f"{name} may come from {self.anything}"
        return ""

    def all(self) -> list[str]:
        """Say it of everything."""
        said = [f"{name} comes from {where}" for name, where in self.settings.items()]
        return [*said, *([f"more may come from {self.anything}"] if self.anything else [])]


def wiring(container: Mapping[str, Any], pod: Mapping[str, Any] | None = None) -> config.Config:
    """Return what a container's environment and flags mean to drainproxy, mistakes among its warnings.

    `pod`: where the Downward API reads. What is unknown has its default.
    """
    seen = _Seen.of(container, pod or {})
    inside = {config.INSIDE: ""}
    env = {name: text for name, text in seen.env.items() if name not in seen.opaque}
    for name in FILES:
        env.pop(f"{PREFIX}{name.upper()}", None)
    flags = {name: texts for name, texts in seen.flags.items() if name not in {*FILES, *seen.opaque_flags}}
    try:
        meant = config.load({**env, **inside}, flags, files=False)
    except ConfigError as error:
        return replace(config.load(inside), warnings=tuple(error.problems))
    edge = [
        f"{name} {why}"
        for name, why in transport_settings.problems(meant.edge, meant.proxy)
        # Those need the files.
        if name not in FILES and "tls_certificate" not in why and "tls_client_ca" not in why
    ]
    return replace(meant, warnings=(*edge, *meant.warnings))


def unknown(container: Mapping[str, Any]) -> Unknown:
    """Return what of a container's settings cannot be known from outside."""
    seen = _Seen.of(container, {})
    found = Unknown(anything=seen.anything)
    for name, text in seen.env.items():
        if name.startswith(PREFIX) and name not in seen.opaque and text:
            found.given.add(name.removeprefix(PREFIX).lower())
    for name, where in seen.opaque.items():
        if name.startswith(PREFIX):
            found.settings[name.removeprefix(PREFIX).lower()] = where
    # A flag wins over whatever the environment says.
    for name in seen.flags:
        found.settings.pop(name, None)
        found.given.add(name)
    found.settings |= seen.opaque_flags
    if "config" in found.given:
        said = seen.flags.get("config") or [seen.env[f"{PREFIX}CONFIG"]]
        found.anything = f"the file {said[0]}"
    elif "config" in found.settings:
        found.anything = f"a file that {found.settings['config']} names"
    return found


@dataclass(slots=True)
class _Seen:
    """A container's variables as the kubelet writes them, and its flags."""

    env: dict[str, str] = field(default_factory=dict)
    opaque: dict[str, str] = field(default_factory=dict)
    """Variables that come from elsewhere, and from where."""
    anything: str = ""
    flags: dict[str, list[str]] = field(default_factory=dict)
    opaque_flags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, container: Mapping[str, Any], pod: Mapping[str, Any]) -> "_Seen":
        seen = cls()
        for each in container.get("envFrom") or ():
            prefix = str(each.get("prefix") or "")
            if PREFIX.startswith(prefix) or prefix.startswith(PREFIX):
                seen.anything = _where(each)
        for each in container.get("env") or ():
            seen._variable(str(each.get("name")), each, pod)
        seen._words(container)
        return seen

    def _variable(self, name: str, entry: Mapping[str, Any], pod: Mapping[str, Any]) -> None:
        source = entry.get("valueFrom") or {}
        # One that comes second wins.
        self.env[name], where = "", ""
        self.opaque.pop(name, None)
        if not source:
            self.env[name], where = self._expand(str(entry.get("value") or ""))
        elif (path := (source.get("fieldRef") or {}).get("fieldPath")) is not None:
            self.env[name] = _field(pod, str(path))
        else:
            where = _where(source)
        if where:
            self.opaque[name] = where

    def _words(self, container: Mapping[str, Any]) -> None:
        """Find the settings among a container's words, `--name value` or `--name=value`."""
        words = [str(word) for word in (*(container.get("command") or ()), *(container.get("args") or ()))]
        known = {setting.name for setting in table()}
        for place, word in enumerate(words):
            name, has_value, text = word[2:].partition("=")
            name = name.replace("-", "_")
            if not word.startswith("--") or name not in known:
                continue
            after = words[place + 1 : place + 2]
            # A switch needs no value, and no value looks like a flag.
            said = text if has_value else "true" if not after or after[0].startswith("--") else after[0]
            expanded, where = self._expand(said)
            self.flags.setdefault(name, []).append(expanded)
            if where:
                self.opaque_flags[name] = where

    def _expand(self, text: str) -> tuple[str, str]:
        """Put variables in (Kubernetes: Define Dependent Environment Variables), and say which is unknown.

        One that is not there stays as it is written.
        """
        names = [each[1] for each in _REFERENCE.finditer(text) if each[1]]
        where = next((self.opaque[name] for name in names if name in self.opaque), "")
        if not where and self.anything and any(name not in self.env for name in names):
            where = self.anything
        put = _REFERENCE.sub(lambda each: self.env.get(each[1], each[0]) if each[1] else "$", text)
        return put, where


def _where(source: Mapping[str, Any]) -> str:
    for key, kind in _SOURCES.items():
        if (of := source.get(key)) is not None:
            return f"{kind} {of.get('name') or of.get('volumeName')}"
    return ""


def _field(pod: Mapping[str, Any], path: str) -> str:
    """Return a field of a pod as the Downward API would."""
    if path == "status.podIPs":
        addresses = [str(each.get("ip")) for each in (pod.get("status") or {}).get("podIPs") or ()]
        return ",".join(addresses) or _SOMEWHERE[path]
    found: Any = pod
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else _SOMEWHERE.get(path, "")
