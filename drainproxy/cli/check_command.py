"""`drainproxy check KIND/NAME`: will a workload's pods drain in the cluster they run in?

Joins what the cluster says (kube/survey.py) with what the sidecar's own settings mean, and prints one line a
verdict (verdicts.py). Changes nothing. Called by main.py.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from drainproxy import config
from drainproxy.cli.verdicts import Verdict, judge
from drainproxy.errors import ConfigError, KubernetesError
from drainproxy.kube import survey
from drainproxy.kube.client import connect
from drainproxy.kube.settings import KubeSettings
from drainproxy.log import plain
from drainproxy.metrics import Metrics
from drainproxy.podspec import sidecar

EXIT_FAILED = 1
EXIT_UNREACHABLE = 69
ELSEWHERE = frozenset({"config", "routes"})
"""Settings that name files of the pod."""

MARKS = {True: "ok  ", False: "FAIL", None: "?   "}


def run(target: str, namespace: str, settings: KubeSettings, *, as_json: bool) -> int:
    """Print every verdict; return 0 if none failed. Raises ConfigError for a target that is none."""
    kind, _, name = target.partition("/")
    if kind.lower() not in survey.KINDS or not name:
        raise ConfigError([f"{config.quote(target)} is no workload; write deploy/NAME, sts/NAME or ds/NAME"])
    try:
        verdicts = asyncio.run(_verdicts(kind.lower(), name, namespace, settings))
    except KubernetesError as error:
        print(plain(f"drainproxy: {target} in namespace {namespace}: {error}"), file=sys.stderr)
        return EXIT_UNREACHABLE
    if as_json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            print(plain(f"{MARKS[verdict.passed]}  {verdict.what:17} {verdict.detail}"))
    return EXIT_FAILED if any(verdict.passed is False for verdict in verdicts) else 0


async def _verdicts(kind: str, name: str, namespace: str, settings: KubeSettings) -> list[Verdict]:
    async with connect(settings, Metrics()) as api:
        found = await survey.survey(api, kind, name, namespace)
        ours, _ = sidecar(found.pod["spec"])
        meant = wiring(ours or {})
        if ours is not None:
            await survey.permissions(api, found, meant.kube.rbac, namespace)
    return list(judge(found, meant))


def wiring(container: Mapping[str, Any]) -> config.Config:
    """Return what a container's environment and flags mean to drainproxy, mistakes among its warnings."""
    inside = {config.INSIDE: ""}
    env = {str(each["name"]): str(each.get("value", "")) for each in container.get("env") or ()}
    for name in ELSEWHERE:
        env.pop(f"DRAINPROXY_{name.upper()}", None)
    try:
        return config.load({**env, **inside}, _flags(container))
    except ConfigError as error:
        return replace(config.load(inside), warnings=tuple(error.problems))


def _flags(container: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the settings among a container's words, `--name value` or `--name=value`."""
    words = [str(word) for word in (*(container.get("command") or ()), *(container.get("args") or ()))]
    given: dict[str, list[str]] = {}
    for place, word in enumerate(words):
        if word.startswith("--"):
            name, has_value, text = word[2:].partition("=")
            after = words[place + 1 : place + 2]
            # A switch needs no value, and no value looks like a flag.
            said = text if has_value else "true" if not after or after[0].startswith("--") else after[0]
            given.setdefault(name.replace("-", "_"), []).append(said)
    return {name: texts for name, texts in given.items() if name not in ELSEWHERE}
