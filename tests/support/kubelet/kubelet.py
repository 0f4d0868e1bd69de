"""The kubelet: starts pods, probes them, and ends them as Kubernetes 1.36 does.

At a pod's end all preStop hooks run at once; a main container gets SIGTERM when its hook is over, a native
sidecar when the containers after it are gone too; what is left at the end of the grace period is killed.
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.cluster.resources import EVENTS, PODS
from tests.support.cluster.store import timestamp
from tests.support.command import INSTALLED
from tests.support.kubelet import probes, statuses
from tests.support.kubelet.container import Container
from tests.support.kubelet.sandbox import Address, Sandbox

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.cluster.store import Store

Image = Callable[[Sandbox], list[str]]
"""The command that a container of it runs, given its pod's surroundings."""

DRAINPROXY = (sys.executable, "-m", "drainproxy")
MIN_GRACE_S = 2.0
"""What SIGTERM is given however long the hook took (kubelet: minimumGracePeriodInSeconds)."""

_STOPPED_S = 5.0


class Pod:
    """One pod. Written by its kubelet."""

    def __init__(self, manifest: dict[str, Any], sandbox: Sandbox) -> None:
        metadata = manifest["metadata"]
        self.manifest = manifest
        self.spec: dict[str, Any] = manifest["spec"]
        self.name: str = metadata["name"]
        self.namespace: str = metadata["namespace"]
        self.uid: str = metadata["uid"]
        self.sandbox = sandbox
        self.sidecars: list[Container] = []
        """Native ones, in the order of their start."""
        self.mains: list[Container] = []
        self.ready = asyncio.Event()
        self.gone = asyncio.Event()
        self.ended_at = 0.0
        """When its end began, loop time."""
        self.gone_at = 0.0
        self.killed: list[str] = []
        """Containers that had to be killed."""
        self.probing: list[asyncio.Task[None]] = []

    @property
    def ip(self) -> str:
        """Its address."""
        return self.sandbox.ip

    @property
    def termination_log(self) -> Path:
        """What the kubelet reads when a container has ended."""
        return self.sandbox.directory / "termination-log"

    @property
    def containers(self) -> list[Container]:
        """All of them."""
        return [*self.sidecars, *self.mains]

    def container(self, name: str) -> Container:
        """Return one by its name."""
        return next(each for each in self.containers if each.name == name)

    @property
    def took_s(self) -> float:
        """Seconds from the beginning of its end to the end of its last process."""
        return self.gone_at - self.ended_at

    @property
    def ending(self) -> bool:
        """Tell whether its end has begun."""
        return bool(self.ended_at)


class Kubelet:
    """One node's. `async with Kubelet(...) as kubelet:` kills what is left at its end."""

    def __init__(
        self,
        store: Store,
        images: Mapping[str, Image],
        *,
        mounts: Mapping[str, Path] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`images`: the command of each image but drainproxy's, which is known. Mounts are every pod's."""
        self._store = store
        # Short: a Unix socket's path has 108 bytes at most.
        self._directory = tempfile.TemporaryDirectory(prefix="pods-")
        self._images = images
        self._mounts = dict(mounts or {})
        self._environment = dict(environment or {})
        self.pods: list[Pod] = []
        self._addresses: list[Address] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Kubelet:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pod in self.pods:
            for container in pod.containers:
                await container.end()
        for address in self._addresses:
            address.release()
        self._directory.cleanup()

    # Starting.

    async def run(self, manifest: dict[str, Any]) -> Pod:
        """Start a pod; `pod.ready` is set when it is. The manifest's name is completed to a new one."""
        address = Address()
        self._addresses.append(address)
        uid = str(uuid.uuid4())
        name = f"{manifest['metadata']['name']}-{_safe(uid[:5])}"
        directory = Path(self._directory.name) / name
        directory.mkdir()
        metadata = {"namespace": "default", **manifest["metadata"], "name": name, "uid": uid}
        spec = {"terminationGracePeriodSeconds": 30, "nodeName": "node-1", **manifest["spec"]}
        sandbox = Sandbox(address.ip, directory, dict(self._mounts), dict(self._environment))
        sandbox.mount(spec)
        pod = Pod({**manifest, "metadata": metadata, "spec": spec}, sandbox)
        self.pods.append(pod)
        self._write(pod)
        self._spawn(self._start(pod))
        return pod

    async def _start(self, pod: Pod) -> None:
        changed = asyncio.Event()
        for manifest in pod.spec.get("initContainers", []):
            assert manifest.get("restartPolicy") == "Always", "only native sidecars are known here"
            pod.sidecars.append(await self._start_container(pod, manifest, changed))
            await probes.started(pod.ip, pod.sidecars[-1])
        for manifest in pod.spec["containers"]:
            pod.mains.append(await self._start_container(pod, manifest, changed))
        while True:
            changed.clear()
            ready = all(container.ready for container in pod.containers)
            if ready != pod.ready.is_set():
                (pod.ready.set if ready else pod.ready.clear)()
                self._write(pod)
            await changed.wait()

    async def _start_container(self, pod: Pod, manifest: dict[str, Any], changed: asyncio.Event) -> Container:
        container = Container(manifest, self._command(pod, manifest), _environment(pod, manifest))
        await container.start()
        failed = partial(self._tell, pod, "Unhealthy")
        pod.probing.append(self._spawn(probes.watch_readiness(pod.ip, container, changed, failed)))
        self._spawn(self._keep_running(pod, container))
        return container

    async def _keep_running(self, pod: Pod, container: Container) -> None:
        """Start it again when it ends by itself: restartPolicy Always."""
        while True:
            await container.gone.wait()
            if pod.ending:
                return
            container.last = statuses.terminated(pod, container)
            pod.termination_log.write_text("")
            await container.start()
            self._write(pod)

    def _command(self, pod: Pod, manifest: dict[str, Any]) -> list[str]:
        image = manifest["image"].rpartition("/")[2].partition(":")[0]
        if image == "drainproxy":
            words = [*DRAINPROXY, *(manifest.get("command") or ["drainproxy"])[1:]]
            return [*words, *map(pod.sandbox.rewrite, manifest.get("args") or ["run"])]
        return self._images[image](pod.sandbox)

    # Ending.

    def delete(
        self,
        pod: Pod,
        *,
        late_s: Mapping[str, float] | None = None,
        stalled_s: float = 0.0,
        grace_s: int | None = None,
    ) -> asyncio.Task[None]:
        """Delete a pod as `kubectl delete` does; the task is over when it is gone.

        `grace_s`: its `--grace-period`. `late_s`: container -> how late its SIGTERM comes. `stalled_s`: how
        long exec hooks are kept from running, as by a CPU limit.
        """
        if grace_s is None:
            grace_s = pod.spec["terminationGracePeriodSeconds"]
        pod.manifest["metadata"] |= {
            # When it has to be gone, not when it was told.
            "deletionTimestamp": timestamp(grace_s),
            "deletionGracePeriodSeconds": grace_s,
        }
        self._write(pod)
        for container in pod.containers:
            self._tell(pod, "Killing", f"Stopping container {container.name}")
        return self._spawn(self._end(pod, grace_s, late_s or {}, stalled_s))

    def shut_node_down(self, pod: Pod, grace_s: float) -> asyncio.Task[None]:
        """End a pod as a node's shutdown does: nobody tells the API server, and probes stop."""
        for probe in pod.probing:
            probe.cancel()
        return self._spawn(self._end(pod, grace_s, {}, 0.0))

    async def restart(self, pod: Pod, name: str, *, grace_s: float | None = None) -> None:
        """End one container and start it again, as after a failed liveness probe."""
        loop = asyncio.get_running_loop()
        container = pod.container(name)
        runs = container.runs
        deadline = loop.time() + (grace_s or pod.spec["terminationGracePeriodSeconds"])
        await self._stop(pod, container, deadline, (), 0.0, 0.0)
        while container.runs == runs:
            await asyncio.sleep(0.01)

    async def _end(self, pod: Pod, grace_s: float, late_s: Mapping[str, float], stalled_s: float) -> None:
        loop = asyncio.get_running_loop()
        pod.ended_at = loop.time()
        deadline = pod.ended_at + grace_s
        over: dict[str, asyncio.Event] = {each.name: asyncio.Event() for each in pod.containers}
        async with asyncio.TaskGroup() as group:
            for at, container in enumerate(pod.containers):
                sidecar = container in pod.sidecars
                after = pod.containers[at + 1 :] if sidecar else []
                turns = [over[other.name] for other in after]
                stop = self._stop(pod, container, deadline, turns, late_s.get(container.name, 0.0), stalled_s)
                group.create_task(stop).add_done_callback(
                    lambda _, name=container.name: over[name].set()  # type: ignore[misc]
                )
        pod.gone_at = max(container.gone_at for container in pod.containers)
        # The last state that anybody is told of, and the only one with what containers leave behind.
        self._write(pod)
        pod.gone.set()
        for probe in pod.probing:
            probe.cancel()
        self._store.delete(PODS, pod.namespace, pod.name)

    async def _stop(
        self, pod: Pod, container: Container, deadline: float, turns, late_s: float, stalled_s: float
    ) -> None:
        loop = asyncio.get_running_loop()
        hook = (container.manifest.get("lifecycle") or {}).get("preStop")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                if hook and container.running:
                    await self._run_hook(pod, container, hook, stalled_s)
                for turn in turns:
                    await turn.wait()
                await asyncio.sleep(late_s)
        container.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout_at(max(deadline, loop.time() + MIN_GRACE_S)):
                await container.gone.wait()
        except TimeoutError:
            pod.killed.append(container.name)
            container.kill()
            async with asyncio.timeout(_STOPPED_S):
                await container.gone.wait()

    async def _run_hook(self, pod: Pod, container: Container, hook: dict[str, Any], stalled_s: float) -> None:
        """Whatever comes of it, SIGTERM is next."""
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
        elif "exec" in hook:
            words = hook["exec"]["command"]
            words = [*DRAINPROXY, *words[1:]] if words[0] == "drainproxy" else words
            await container.execute([pod.sandbox.rewrite(word) for word in words], stalled_s=stalled_s)
        else:
            try:
                await probes.http_get(pod.ip, hook["httpGet"], agent="kube-lifecycle/1.36")
            except (OSError, ValueError, IndexError) as error:
                self._tell(pod, "FailedPreStopHook", f"PreStopHook failed: {error}")

    # What the cluster is told.

    def _write(self, pod: Pod) -> None:
        if pod.gone.is_set():
            return
        ready = "True" if pod.ready.is_set() else "False"
        status = {
            "phase": "Running",
            "podIP": pod.ip,
            "conditions": [{"type": "Ready", "status": ready}],
            "initContainerStatuses": [statuses.of(pod, each) for each in pod.sidecars],
            "containerStatuses": [statuses.of(pod, each) for each in pod.mains],
        }
        self._store.put(PODS, {**pod.manifest, "status": status})

    def _tell(self, pod: Pod, reason: str, note: str) -> None:
        """Write an Event, as one that was made through core/v1 reads in events.k8s.io/v1."""
        about = {"kind": "Pod", "name": pod.name, "namespace": pod.namespace, "uid": pod.uid}
        self._store.put(
            EVENTS,
            {
                "metadata": {"name": f"{pod.name}.{uuid.uuid4().hex[:16]}", "namespace": pod.namespace},
                "eventTime": None,
                "deprecatedLastTimestamp": timestamp(),
                "deprecatedCount": 1,
                "reason": reason,
                "note": note,
                "regarding": about,
            },
        )

    def evict(self, namespace: str, name: str) -> None:
        """Delete a pod by its name, if it is here."""
        for pod in self.pods:
            if (pod.namespace, pod.name) == (namespace, name) and not pod.ending:
                self.delete(pod)

    def log(self, namespace: str, name: str, container: str) -> Container | None:
        """Return who says what `kubectl logs` shows; None for a pod that is gone."""
        for pod in self.pods:
            if (pod.namespace, pod.name) == (namespace, name) and not pod.gone.is_set():
                return next((each for each in pod.containers if each.name == container), None)
        return None

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _safe(text: str) -> str:
    """Return letters that Kubernetes' own random names are made of (apimachinery: SafeEncodeString)."""
    letters = "bcdfghjklmnpqrstvwxz2456789"
    return "".join(letters[ord(each) % len(letters)] for each in text)


_DEFAULTS = {
    "DRAINPROXY_LISTEN": ":28080",
    "DRAINPROXY_ADMIN": ":29900",
    "DRAINPROXY_UPSTREAM": "http://127.0.0.1:8080",
    "DRAINPROXY_KUBERNETES_CREDENTIALS": "/var/run/secrets/kubernetes.io/serviceaccount",
    "DRAINPROXY_TERMINATION_LOG": "/dev/termination-log",
}
"""drainproxy's own, said aloud: in a sandbox they mean another address and other files."""


# What is installed comes first, and the sources in this directory last: the tests lie there too.
_HERE = str(Path(__file__).resolve().parents[3])
_PATH = [*(entry for entry in sys.path if entry not in {"", _HERE}), _HERE]


def _environment(pod: Pod, manifest: dict[str, Any]) -> dict[str, str]:
    """Return what the container's process finds in its environment."""
    pod.termination_log.touch()
    pod.sandbox.mounts["/dev/termination-log"] = pod.termination_log
    said = {entry["name"]: _said(pod, entry) for entry in manifest.get("env") or []}
    return {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(_PATH),
        "PYTHONUNBUFFERED": "1",
        **INSTALLED,
        **pod.sandbox.environment,
        # Abstract names are a network namespace's own, and these pods share one.
        "DRAINPROXY_CONTROL_SOCKET": f"@{pod.sandbox.directory}",
        **{name: pod.sandbox.rewrite(value) for name, value in {**_DEFAULTS, **said}.items()},
    }


def _said(pod: Pod, entry: dict[str, Any]) -> str:
    return entry["value"] if "value" in entry else _field(pod, entry["valueFrom"]["fieldRef"]["fieldPath"])


def _field(pod: Pod, path: str) -> str:
    """Return what the Downward API says."""
    if path in {"status.podIP", "status.hostIP"}:
        # This kubelet's own connections come from nowhere else.
        return pod.ip
    found: Any = pod.manifest
    for part in path.split("."):
        found = found[part]
    return str(found)
