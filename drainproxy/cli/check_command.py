"""`drainproxy check KIND/NAME`: will a workload's pods drain in the cluster they run in?

Joins what the cluster says (kube/survey.py) with what the sidecar's own settings mean (wiring.py), and prints
one line a verdict (verdicts.py). Changes nothing. Called by main.py.
"""

import asyncio
import json
import logging
import sys
from dataclasses import asdict

from drainproxy import config
from drainproxy.cli.verdicts import Verdict, judge
from drainproxy.cli.wiring import unknown, wiring
from drainproxy.errors import ConfigError, KubernetesError
from drainproxy.kube import owners, survey
from drainproxy.kube.client import connect
from drainproxy.kube.settings import KubeSettings
from drainproxy.log import plain
from drainproxy.metrics import Metrics
from drainproxy.podspec import sidecar

EXIT_FAILED = 1
EXIT_UNREACHABLE = 69

MARKS = {True: "ok  ", False: "FAIL", None: "?   "}


def run(target: str, namespace: str, settings: KubeSettings, *, as_json: bool) -> int:
    """Print every verdict; return 0 if none failed. Raises ConfigError for a target that is none."""
    word, _, name = target.partition("/")
    kind = owners.kind_of(word)
    if kind is None or not name:
        raise ConfigError(
            [f"{config.quote(target)} is no workload; write deploy/NAME, sts/NAME, ds/NAME or rollout/NAME"]
        )
    # What is wrong with a kubeconfig is said once, here, and not by the library as well.
    logging.disable()
    try:
        verdicts = asyncio.run(_verdicts(kind, name, namespace, settings))
    except KubernetesError as error:
        print(plain(f"drainproxy: {target} in namespace {namespace}: {error}"), file=sys.stderr)
        return EXIT_UNREACHABLE
    if as_json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            print(plain(f"{MARKS[verdict.passed]}  {verdict.what:17} {verdict.detail}"))
    return EXIT_FAILED if any(verdict.passed is False for verdict in verdicts) else 0


async def _verdicts(kind: owners.Kind, name: str, namespace: str, settings: KubeSettings) -> list[Verdict]:
    async with connect(settings, Metrics()) as api:
        found = await survey.survey(api, kind, name, namespace)
        # Where some of the pods have the sidecar, what is said of it is said of theirs.
        found.pod = next((each for each in found.pods if sidecar(each["spec"])[0]), found.pod)
        ours, _ = sidecar(found.pod["spec"])
        meant = wiring(ours or {}, found.pod)
        if ours is not None:
            await survey.permissions(api, found, meant.kube.rbac, namespace)
    return list(judge(found, meant, unknown(ours or {})))
