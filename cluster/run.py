"""Try drainproxy in a real cluster: install the chart, replace pods under load, judge, leave nothing behind.

`make cluster KUBECONFIG=file IMAGE=name` and the workflow call it. Everything it does is kubectl's, helm's
and drainproxy's own; every command and every wait is bounded, and what it made is deleted whatever happens.
Logs of pods that it deletes are followed into --logs, since the cluster keeps none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
APPLICATIONS = ("named", "told", "unread")
PATIENCE_S = 180
PROBE = {
    "image": "IMAGE",
    "imagePullPolicy": "IfNotPresent",
    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
STOP = "import os, signal; os.kill(1, signal.SIGINT)"


class Failed(Exception):
    """Something is not as it should be; says what."""


class Cluster:
    """A cluster, and the two namespaces that are made in it."""

    def __init__(self, kubeconfig: Path, image: str, logs: Path) -> None:
        self.image, self.logs = image, logs
        self._kubeconfig = str(kubeconfig)
        name = f"drainproxy-try-{uuid.uuid4().hex[:6]}"
        self.release, self.namespace, self.callers = name, f"{name}-apps", f"{name}-callers"
        self._followers: list[subprocess.Popen[bytes]] = []

    def kubectl(self, *words: str, given: str | None = None, timeout_s: int = PATIENCE_S) -> str:
        """Run kubectl. Raises Failed with its last words."""
        return run("kubectl", "--kubeconfig", self._kubeconfig, *words, given=given, timeout_s=timeout_s)

    def helm(self, *words: str) -> str:
        """Run helm. Raises Failed with its last words."""
        return run("helm", "--kubeconfig", self._kubeconfig, *words, timeout_s=2 * PATIENCE_S)

    def check(self, name: str) -> str:
        """Have drainproxy judge a Deployment."""
        words = ("check", f"deploy/{name}", "--namespace", self.namespace, "--kubeconfig", self._kubeconfig)
        return run(sys.executable, "-m", "drainproxy", *words)

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Return an application's pods that are not ending, the oldest first."""
        words = (
            "get",
            "pods",
            "--namespace",
            self.namespace,
            "--selector",
            f"app={name}",
            "--output",
            "json",
        )
        items = json.loads(self.kubectl(*words))["items"]
        staying = [each for each in items if "deletionTimestamp" not in each["metadata"]]
        return sorted(staying, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def follow(self, pod: str) -> None:
        """Write the sidecar's log to a file until the pod is gone."""
        words = ("logs", pod, "--namespace", self.namespace, "--container", "drainproxy", "--follow")
        with (self.logs / f"{pod}.log").open("wb") as file:
            command = ("kubectl", "--kubeconfig", self._kubeconfig, *words)
            self._followers.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT))

    def hang_up(self, patience_s: float = PATIENCE_S) -> None:
        """Wait for the followed pods to be gone, and stop to listen to those that are not."""
        until = time.monotonic() + patience_s
        for each in self._followers:
            try:
                each.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()


def run(*command: str, given: str | None = None, timeout_s: int = PATIENCE_S) -> str:
    """Run a command; return what it wrote. Raises Failed with its last words."""
    name = " ".join(word for word in command[:5] if not word.startswith(("/", "-")))
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=ROOT
        )
    except FileNotFoundError:
        raise Failed(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{name}: no end within {timeout_s} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-600:]
        raise Failed(f"{name}: {said}")
    return done.stdout


def say(what: str) -> None:
    """Tell where it is."""
    print(f"cluster: {what}", flush=True)


def install(cluster: Cluster, mode: str) -> None:
    """Install the chart with the image, and wait until it puts sidecars into pods."""
    repository, _, tag = cluster.image.rpartition(":")
    values = (f"image.repository={repository}", f"image.tag={tag}", f"injection.mode={mode}")
    rights = f"rbac.namespaces[0].name={cluster.namespace}"
    settings = [word for value in (*values, rights) for word in ("--set", value)]
    # The roles' namespace must be there before them.
    texts = (ROOT / "cluster" / "applications.yaml").read_text()
    text = texts.replace("NAMESPACE", cluster.namespace).replace("IMAGE", cluster.image)
    namespace, _, rest = text.partition("\n---\n")
    cluster.kubectl("apply", "--filename", "-", given=namespace)
    cluster.kubectl("create", "namespace", cluster.callers)
    words = (
        "install",
        cluster.release,
        "helm/drainproxy",
        "--namespace",
        cluster.release,
        "--create-namespace",
    )
    cluster.helm(*words, "--wait", "--timeout", f"{PATIENCE_S}s", *settings)
    say(f"installed the chart, injection by {mode}")
    cluster.kubectl("apply", "--filename", "-", given=rest)
    for name in APPLICATIONS:
        ready(cluster, name)
        for pod in cluster.pods(name):
            spec = pod["spec"]
            containers = [each["name"] for each in (*spec.get("initContainers", []), *spec["containers"])]
            if "drainproxy" not in containers:
                raise Failed(f"{pod['metadata']['name']} has no sidecar; it has {', '.join(containers)}")
    say(f"{len(APPLICATIONS)} applications run, each pod with its sidecar")


def ready(cluster: Cluster, name: str) -> None:
    """Wait until an application has all of its pods."""
    words = ("rollout", "status", f"deployment/{name}", "--namespace", cluster.namespace)
    cluster.kubectl(*words, "--timeout", f"{PATIENCE_S}s", timeout_s=PATIENCE_S + 30)


def call(cluster: Cluster, name: str, rate: int) -> None:
    """Start a pod that calls an application until it is told to stop."""
    url = f"http://{name}.{cluster.namespace}/"
    # Longer than any run may take: it ends by STOP.
    arguments = ["probe", "--json", "--rate", str(rate), "--duration", "2h", url]
    container = {**PROBE, "name": "probe", "image": cluster.image, "args": arguments}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": cluster.callers},
        "spec": {"restartPolicy": "Never", "containers": [container], "activeDeadlineSeconds": 7200},
    }
    cluster.kubectl("apply", "--filename", "-", given=json.dumps(pod))
    words = ("wait", f"pod/{name}", "--namespace", cluster.callers, "--for", "condition=Ready")
    cluster.kubectl(*words, "--timeout", f"{PATIENCE_S}s", timeout_s=PATIENCE_S + 30)


def replace(cluster: Cluster, replacements: int) -> None:
    """Delete pods, in turn of each application, and wait each time until it has all of them again."""
    for number in range(replacements):
        name = APPLICATIONS[number % len(APPLICATIONS)]
        pod = cluster.pods(name)[0]["metadata"]["name"]
        cluster.follow(pod)
        cluster.kubectl("delete", "pod", pod, "--namespace", cluster.namespace, "--wait=false")
        time.sleep(1)  # the Deployment's status is older than the deletion until its controller has seen it
        ready(cluster, name)
        say(f"replaced {pod}, {number + 1} of {replacements}")


def heard(cluster: Cluster, name: str) -> dict[str, Any]:
    """Stop a caller; return what became of its requests."""
    where = ("--namespace", cluster.callers)
    cluster.kubectl("exec", name, *where, "--", "python3", "-c", STOP)
    until = time.monotonic() + PATIENCE_S
    while cluster.kubectl("get", "pod", name, *where, "--output", "jsonpath={.status.phase}") == "Running":
        if time.monotonic() > until:
            raise Failed(f"the caller of {name} does not end")
        time.sleep(1)  # kubectl waits for one phase, and it may end in two
    said = cluster.kubectl("logs", name, *where)
    return json.loads(said[said.index("{") : said.rindex("}") + 1])


def reports(logs: Path) -> list[dict[str, Any]]:
    """Return the drain reports in the logs of deleted pods. Raises Failed for a pod without one."""
    found = []
    for file in sorted(logs.glob("*.log")):
        lines = [line for line in file.read_text().splitlines() if '"drain_report"' in line]
        if not lines:
            raise Failed(f"{file.name} has no drain_report")
        found.append(json.loads(lines[-1]))
    return found


def judge(cluster: Cluster) -> None:
    """Insist on no lost request, on good reports, and on what `drainproxy check` says. Raises Failed."""
    wrong = []
    for name in APPLICATIONS:
        called = heard(cluster, name)
        say(f"{name}: {called['requests']} requests, {called['lost']} lost")
        if called["lost"]:
            wrong.append(f"{name} has lost {called['lost']} of {called['requests']}: {called['losses'][:3]}")
        elif not called["requests"]:
            wrong.append(f"nobody has called {name}")
        cluster.check(name)
    cluster.hang_up()
    bad = [of for each in reports(cluster.logs) if (of := each["requests"])["lost"] or of["cut"]]
    wrong += [f"a report says {each}" for each in bad]
    if wrong:
        raise Failed("; ".join(wrong))


def clean(cluster: Cluster) -> None:
    """Delete what was made; go on where something is gone already."""
    cluster.hang_up(0)
    with contextlib.suppress(Failed):
        cluster.helm("uninstall", cluster.release, "--namespace", cluster.release, "--wait")
    for name in (cluster.namespace, cluster.callers, cluster.release):
        with contextlib.suppress(Failed):
            words = ("delete", "namespace", name, "--ignore-not-found", "--timeout", f"{PATIENCE_S}s")
            cluster.kubectl(*words, timeout_s=PATIENCE_S + 30)


def attempt(cluster: Cluster, mode: str, replacements: int, rate: int) -> None:
    """Go from an empty namespace to a verdict, and back. Raises Failed."""
    cluster.kubectl("version", "--output", "json", timeout_s=30)
    try:
        install(cluster, mode)
        for name in APPLICATIONS:
            call(cluster, name, rate)
        replace(cluster, replacements)
        judge(cluster)
    finally:
        clean(cluster)
    left = cluster.kubectl("get", "namespaces", "--output", "name")
    if cluster.release in left:
        raise Failed(f"something of {cluster.release} is left")


def main(arguments: list[str]) -> int:
    """Try it in the cluster of a kubeconfig; return 1 if anything is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--image", required=True, help="REPOSITORY:TAG that the nodes have or can pull")
    parser.add_argument("--mode", default="webhook", choices=("webhook", "policy"))
    parser.add_argument("--replacements", type=int, default=30)
    parser.add_argument("--rate", type=int, default=20, help="requests a second to each application")
    parser.add_argument("--logs", type=Path, default=Path("cluster-logs"))
    options = parser.parse_args(arguments)
    if not options.kubeconfig.is_file():
        print(f"cluster: {options.kubeconfig} is no file: make cluster KUBECONFIG=file", file=sys.stderr)
        return 1
    options.logs.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(options.kubeconfig.resolve(), options.image, options.logs)
    try:
        attempt(cluster, options.mode, options.replacements, options.rate)
    except Failed as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    say("good")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
