"""A pod of real containers, application and sidecar in one network, is ended under load from outside.

`make image-test` runs it, after `make image`.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from pathlib import Path

import pytest
import yaml

from tests.image.callers import calling
from tests.image.containers import Container, answers, container
from tests.image.engine import IMAGE, engine, podman
from tests.support.command import drainproxy as command
from tests.support.network import NEIGHBOUR, POD, TRAFFIC, joined

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HERE = Path(__file__).parent
SETTINGS = {"rbac": "none", "propagation": "cluster", "propagation_max": "8s", "grace_period": "30s"}
FLIP_S = 1.0
"""How long a Service goes on choosing a pod that ends."""


def application(network, name: str, address: str = "127.0.0.1"):
    """Start an application in a pod's network."""
    script = ("--volume", f"{HERE}:/app:ro", "--entrypoint", "python3")
    return container("/app/application.py", name, address, network=network, options=script)


async def forgotten(callers, address: str) -> None:
    """Let a Service choose the pod no more, after the time that a cluster takes."""
    await asyncio.sleep(FLIP_S)
    callers.forget(address)


async def test_a_pod_that_ends_loses_nobody():
    """Two pods behind a Service; one gets its hook and SIGTERM, as a kubelet does it: 0 lost."""
    engine("podman")
    async with joined() as (pod, neighbour):
        with (
            application(pod, "one") as one,
            application(neighbour, "two"),
            container(network=pod, options=("--memory", "128m"), **SETTINGS) as sidecar,
            container(network=neighbour, **SETTINGS),
        ):
            for each, host in ((pod, POD), (neighbour, NEIGHBOUR)):
                await answers(each, "/", host=host, port=TRAFFIC)
            async with calling(neighbour, f"{POD}:{TRAFFIC}", f"{NEIGHBOUR}:{TRAFFIC}") as callers:
                flip = asyncio.create_task(forgotten(callers, f"{POD}:{TRAFFIC}"))
                # As beside a native sidecar: the application's hook waits for the drain, and then it stops.
                hook = ("import urllib.request as http; http.urlopen('http://127.0.0.1:29900/drain/wait')",)
                podman("exec", sidecar.name, "drainproxy", "drain", "--prestop")
                await asyncio.to_thread(podman, "exec", one.name, "python3", "-c", *hook)
                await asyncio.to_thread(one.stop)
                await asyncio.to_thread(sidecar.stop)
                await flip
                called = await callers.stop()
            report = sidecar.event("drain_report")
    assert (called["lost"], set(called["statuses"])) == (0, {"200"}), called
    assert called["requests"] > 300
    assert report["requests"]["late"] > 0, "nobody came while the cluster forgot"
    assert (report["requests"]["lost"], report["requests"]["cut"]) == (0, 0)


async def test_the_same_pod_without_drainproxy_loses_some():
    """The same callers see it: an application alone closes its door before the Service forgets it."""
    engine("podman")
    async with joined() as (pod, neighbour):
        with application(pod, "one", POD) as one, application(neighbour, "two", NEIGHBOUR):
            for each, host in ((pod, POD), (neighbour, NEIGHBOUR)):
                await answers(each, "/", host=host, port=8080)
            async with calling(neighbour, f"{POD}:8080", f"{NEIGHBOUR}:8080") as callers:
                flip = asyncio.create_task(forgotten(callers, f"{POD}:8080"))
                await asyncio.to_thread(one.stop)
                await flip
                called = await callers.stop()
    assert called["lost"] > 0, called


DEPLOYMENT = """\
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{drainproxy.io/inject: "true"}}
spec:
  terminationGracePeriodSeconds: 30
  containers:
    - name: shop
      image: {image}
      imagePullPolicy: Never
      command: [python3, /app/application.py, shop, 127.0.0.1]
      securityContext: {{readOnlyRootFilesystem: true, runAsUser: 65532}}
      volumeMounts: [{{name: app, mountPath: /app}}]
      ports: [{{name: http, containerPort: 8080}}]
  volumes:
    - name: app
      hostPath: {{path: {here}, type: Directory}}
"""


UNKNOWN_FIELDS = ("status.hostIP", "status.hostIPs", "spec.nodeName", "metadata.namespace", "metadata.uid")


def field_of(variable: dict) -> str:
    """Return the field of the pod that an environment variable has, or nothing."""
    return variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath", "")


@contextlib.contextmanager
def played(text: str, path: Path, network):
    """Have podman start a pod of a manifest, its bridge in the test's namespace; it ends with the block."""
    pod = yaml.safe_load(text)
    for each in pod["spec"]["containers"]:
        # podman knows less of a pod than a kubelet.
        each["env"] = [one for one in each.get("env", []) if field_of(one) not in UNKNOWN_FIELDS]
    path.write_text(yaml.safe_dump(pod))
    name = pod["metadata"]["name"]
    try:
        podman("play", "kube", path, timeout=120, network=network)
        yield {each: Container(f"{name}-{each}") for each in ("shop", "drainproxy")}
    finally:
        podman("pod", "rm", "--force", "--time", "0", name, check=False, network=network)


async def test_podman_plays_what_inject_writes(tmp_path):
    """What `drainproxy inject` writes, a plain sidecar, starts, and the pod answers through it."""
    engine("podman")
    name = f"shop-{uuid.uuid4().hex[:8]}"
    source = tmp_path / "pod.yaml"
    source.write_text(DEPLOYMENT.format(name=name, image=IMAGE, here=HERE))
    options = (
        "--set",
        "mode=plain",
        "--set",
        "rbac=none",
        "--set",
        "image-pull-policy=Never",
        "--set",
        "propagation=none",
    )
    done = command("inject", "-f", str(source), "--image", IMAGE, *options)
    assert done.returncode == 0, done.stderr
    async with joined() as (pod, neighbour):
        with played(done.stdout, tmp_path / "injected.yaml", pod) as containers:
            await answers(neighbour, "/", host=POD, port=TRAFFIC)
            sidecar = containers["drainproxy"]
            state = sidecar.inspect()
            assert state["Config"]["User"].startswith("65532")
            sidecar.stop()
            assert sidecar.event("drain_report")["requests"]["lost"] == 0
