"""kubectl and helm of a test: programs that keep a cluster of three Deployments in a file.

Installed under both names by the test; `STATE` names the file, `FAULT` what goes wrong.
"""

import fcntl
import json
import os
import sys
import time
from pathlib import Path

NAME = Path(sys.argv[0]).name
STATE, FAULT = Path(os.environ["STATE"]), os.environ.get("FAULT", "")
WORDS = sys.argv[3:]  # behind --kubeconfig FILE
NAMES = ("named", "told", "unread")


def option(name: str) -> str:
    """Return an option's value."""
    return WORDS[WORDS.index(name) + 1] if name in WORDS else ""


def pod(name: str, number: int) -> dict:
    """Return a pod as the API has it."""
    sidecar = [] if FAULT == "no sidecar" else [{"name": "drainproxy"}]
    return {
        "metadata": {"name": f"{name}-{number}", "creationTimestamp": f"2030-01-01T00:00:{number:02}Z"},
        "spec": {"initContainers": sidecar, "containers": [{"name": "application"}]},
    }


def version(state: dict) -> None:
    """Reach the cluster, or not."""
    if FAULT == "unreachable":
        sys.exit("The connection to the server 192.0.2.1:6443 was refused")


def apply(state: dict) -> None:
    """Take in what is written of Deployments, namespaces and callers."""
    text = sys.stdin.read()
    found = [name for name in NAMES if f"kind: Deployment\nmetadata: {{name: {name}," in text]
    state["pods"] |= {name: [pod(name, number) for number in (1, 2)] for name in found}
    if "kind: Namespace" in text:
        state["namespaces"].append(text.split("name: ")[1].split("\n")[0])
    if text.startswith("{"):
        state["callers"].append(json.loads(text)["spec"]["containers"][0]["args"][-1])


def create(state: dict) -> None:
    """Make a namespace."""
    state["namespaces"].append(WORDS[2])


def get(state: dict) -> None:
    """Say what is there."""
    if WORDS[1] == "pods":
        print(json.dumps({"items": state["pods"][option("--selector").removeprefix("app=")]}))
    elif WORDS[1] == "pod":
        print("Succeeded", end="")
    else:
        print(*(f"namespace/{each}" for each in state["namespaces"]), sep="\n")


def delete(state: dict) -> None:
    """Delete a pod, which has a successor, or a namespace."""
    if WORDS[1] == "namespace":
        gone = "" if FAULT == "stuck" else WORDS[2]
        state["namespaces"] = [each for each in state["namespaces"] if each != gone]
        return
    name = WORDS[2].rpartition("-")[0]
    state["number"] += 1
    staying = [each for each in state["pods"][name] if each["metadata"]["name"] != WORDS[2]]
    state["pods"][name] = [*staying, pod(name, state["number"])]
    state["deleted"].append(WORDS[2])


def rollout(state: dict) -> None:
    """Be done with it, or not."""
    if FAULT == "rollout":
        sys.exit("error: timed out waiting for the condition")


def logs(state: dict) -> None:
    """Write a sidecar's report, or what a caller has measured."""
    if "--follow" not in WORDS:
        lost = 3 if f"lost {WORDS[1]}" == FAULT else 0
        measured = {"requests": 0 if FAULT == "silent" else 500, "lost": lost, "losses": ["refused"] * lost}
        print(f"a table for people\n{json.dumps(measured)}")
    elif FAULT != "no report":
        print(json.dumps({"event": "drain_report", "requests": {"lost": 0, "cut": int(FAULT == "cut")}}))


def execute(state: dict) -> None:
    """Run a command in a pod, which may not come back."""
    if FAULT == "hang":
        time.sleep(60)


VERBS = {
    "version": version,
    "apply": apply,
    "create": create,
    "get": get,
    "delete": delete,
    "rollout": rollout,
    "logs": logs,
    "exec": execute,
}

with STATE.open("r+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    kept = json.load(file)
    kept["said"].append([NAME, *WORDS])
    if NAME == "kubectl":
        VERBS.get(WORDS[0], lambda _: None)(kept)
    elif WORDS[0] == "install":
        kept["namespaces"].append(option("--namespace"))
    file.seek(0)
    file.truncate()
    json.dump(kept, file)
