"""When is it over, what a command has set off? kubectl returns before old pods have left, and often sooner.

Asks with the user's own kubectl, so with the user's own way to the cluster and permissions: what was there
before, `rollout status` of each workload, and `wait --for=delete` for the old pods. Whatever cannot be told
is said, and then nobody claims that it was waited for. Called by measurement.py.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from drainproxy.proof.probe.kubectl import Order

MAX_PODS_ASKED = 100
"""Named in one command."""
ASK_S = 20.0
"""For a question that waits for nothing."""
MAX_WHY_CHARS = 200
WATCHED = ("Deployment", "StatefulSet", "DaemonSet")
"""What `kubectl rollout status` knows."""

Workload = tuple[str, str, str]
"""Kind, namespace, name."""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """`why`: what was not waited for, if it was not seen to its end."""

    waited_for: tuple[str, ...] = ()
    old_pods: int = 0
    took_s: float = 0.0
    why: str = ""

    @property
    def complete(self) -> bool:
        """Tell whether what was set off is over."""
        return not self.why


class _Unanswered(Exception):
    """kubectl did not do what was asked; says why."""


@dataclass(slots=True)
class Watcher:
    """Of one order. `look` before the command runs, `over` once it has ended."""

    order: Order
    show: Callable[[str], None]
    _workloads: dict[Workload, str] = field(default_factory=dict)
    """And what chooses its pods."""
    _pods: dict[tuple[str, str], str] = field(default_factory=dict)
    """Namespace and name of those that were there before, with their UIDs."""
    _problem: str = ""

    async def look(self) -> None:
        """Take note of who is there."""
        try:
            await self._find()
        except _Unanswered as failure:
            self._problem = str(failure)

    async def over(self, until: float) -> Aftermath:
        """Wait until it is over, or until loop time `until`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        names = tuple(f"{kind.lower()}/{name}" for kind, _, name in self._workloads)
        gone, why = 0, self._problem
        try:
            if not why:
                if self.order.verb == "apply":
                    # What it has made was not there before.
                    await self._find(pods=False)
                    names = tuple(f"{kind.lower()}/{name}" for kind, _, name in self._workloads)
                await self._rolled_out(until)
                gone = await self._old_ones(until)
        except _Unanswered as failure:
            why = str(failure)
        if not why and not names and not gone:
            why = "it names no workload and no pod that is known"
        return Aftermath(names, gone, loop.time() - began, why)

    # Who is there.

    async def _find(self, *, pods: bool = True) -> None:
        order = self.order
        if order.verb == "drain":
            nodes = await self._items("get", "nodes", *order.objects)
            for node in nodes:
                on = f"spec.nodeName={node['metadata']['name']}"
                self._note(await self._items("get", "pods", "--all-namespaces", "--field-selector", on))
            return
        for thing in await self._items("get", *order.objects, "--ignore-not-found"):
            if thing.get("kind") == "Pod":
                self._note([thing])
            elif chooser := _chooser(thing):
                metadata = thing["metadata"]
                workload = (str(thing["kind"]), str(metadata.get("namespace", "")), str(metadata["name"]))
                known = workload in self._workloads
                self._workloads[workload] = chooser
                if pods and not known:
                    self._note(await self._pods_of(workload), owners=False)

    def _note(self, pods: Iterable[dict[str, Any]], *, owners: bool = True) -> None:
        for pod in pods:
            metadata = pod["metadata"]
            self._pods[metadata.get("namespace", ""), metadata["name"]] = str(metadata.get("uid"))
            if owners and (workload := _owner(pod)) is not None:
                self._workloads.setdefault(workload, "")

    async def _pods_of(self, workload: Workload) -> list[dict[str, Any]]:
        _, namespace, _ = workload
        return await self._items("get", "pods", *_in(namespace), "-l", self._workloads[workload])

    # What is waited for.

    async def _rolled_out(self, until: float) -> None:
        for kind, namespace, name in self._workloads:
            if self.order.verb == "delete" and self._workloads[kind, namespace, name]:
                # It was deleted itself.
                continue
            if kind not in WATCHED:
                raise _Unanswered(f"kubectl rollout status does not know {kind} {name}")
            target = f"{kind.lower()}/{name}"
            self.show(f"drainproxy probe waits for the rollout of {target}")
            await self._waits(until, "rollout", "status", target, *_in(namespace))

    async def _old_ones(self, until: float) -> int:
        """Wait for those of before who are leaving; return how many they were."""
        leaving = await self._leaving()
        for namespace in sorted({namespace for namespace, _ in leaving}):
            names = [f"pod/{name}" for of, name in leaving if of == namespace]
            self.show(f"drainproxy probe waits for {len(names)} old pods to be gone")
            for at in range(0, len(names), MAX_PODS_ASKED):
                some = names[at : at + MAX_PODS_ASKED]
                await self._waits(until, "wait", "--for=delete", *some, *_in(namespace))
        return len(leaving)

    async def _leaving(self) -> list[tuple[str, str]]:
        now: dict[tuple[str, str], dict[str, Any]] = {}
        for namespace in sorted({namespace for namespace, _ in self._pods}):
            for pod in await self._items("get", "pods", *_in(namespace)):
                now[namespace, pod["metadata"]["name"]] = pod["metadata"]
        return [
            key
            for key, uid in self._pods.items()
            if key in now and now[key].get("uid") == uid and "deletionTimestamp" in now[key]
        ]

    # kubectl.

    async def _waits(self, until: float, *words: str) -> None:
        left_s = until - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise _Unanswered("the measurement was over first; raise --duration")
        await self._run([*words, f"--timeout={max(1, int(left_s))}s"], left_s)

    async def _items(self, *words: str) -> list[dict[str, Any]]:
        said = await self._run([*words, "-o", "json"], ASK_S)
        if not said.strip():
            return []
        try:
            found = json.loads(said)
            return list(found["items"]) if "items" in found else [found]
        except (ValueError, KeyError, TypeError):
            raise _Unanswered(f"kubectl {' '.join(words[:2])} says no JSON") from None

    async def _run(self, words: list[str], within_s: float) -> bytes:
        command = self.order.ask(*words)
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise _Unanswered(f"cannot run {command[0]}: {error.strerror}") from None
        try:
            async with asyncio.timeout(within_s):
                out, err = await child.communicate()
        except TimeoutError:
            raise _Unanswered(f"kubectl {' '.join(words[:3])}: not over when the time was") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode:
            said = err.decode(errors="replace").strip().splitlines()
            why = said[-1] if said else f"exit code {child.returncode}"
            raise _Unanswered(f"kubectl {' '.join(words[:3])}: {why[:MAX_WHY_CHARS]}")
        return out


def _in(namespace: str) -> list[str]:
    return ["--namespace", namespace] if namespace else []


def _chooser(thing: dict[str, Any]) -> str:
    """Return the label selector of a workload; empty for what has no pods of its own."""
    if "template" not in (thing.get("spec") or {}):
        return ""
    labels = (thing["spec"].get("selector") or {}).get("matchLabels") or {}
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _owner(pod: dict[str, Any]) -> Workload | None:
    """Return the workload of a pod; a Deployment's name is its ReplicaSet's without the template's hash."""
    metadata = pod["metadata"]
    owner = next((each for each in metadata.get("ownerReferences") or () if each.get("controller")), None)
    if owner is None:
        return None
    kind, name = str(owner["kind"]), str(owner["name"])
    if kind == "ReplicaSet":
        tail = f"-{(metadata.get('labels') or {}).get('pod-template-hash')}"
        if not name.endswith(tail):
            return None
        kind, name = "Deployment", name.removesuffix(tail)
    return (kind, str(metadata.get("namespace", "")), name) if kind in WATCHED else None
