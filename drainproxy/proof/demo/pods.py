"""Pods: the application's process, and beside it, in one lane, drainproxy's.

Ports are ephemeral; each process says on its standard output which one it got. Called by `run.py`.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from drainproxy.proof.client import Address
from drainproxy.proof.demo import application
from drainproxy.proof.demo.children import Child, Children

GRACE_S = 30.0  # Kubernetes' default terminationGracePeriodSeconds
DRAINPROXY = (sys.executable, "-m", "drainproxy")
PROPAGATION = "cluster"  # one setting at every lag: the point is not to have to know the lag

_RUNNING_ON = re.compile(r"Running on http://([\d.]+):(\d+)")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """drainproxy in front of a pod's application."""

    process: Child
    traffic: Address
    admin: Address


@dataclass(frozen=True, slots=True)
class Pod:
    name: str
    app: Child
    app_address: Address
    sidecar: Sidecar | None = None

    @property
    def address(self) -> Address:
        """What the Service's targetPort points at."""
        return self.sidecar.traffic if self.sidecar else self.app_address

    @property
    def processes(self) -> list[Child]:
        return [self.app, *([self.sidecar.process] if self.sidecar else [])]


@dataclass(frozen=True, slots=True)
class PodMaker:
    """Starts pods of one lane; they share a ledger, as replicas share a database."""

    children: Children
    directory: Path
    proxy: tuple[str, ...] = DRAINPROXY

    async def start(self, name: str, *, ledger: Path, sidecar: bool) -> Pod:
        script = str(Path(application.__file__))
        app = await self.children.start(f"{name} application", sys.executable, script, str(ledger))
        address = await app.says(_running_on)
        if not sidecar:
            return Pod(name=name, app=app, app_address=address)
        proxy = await self.start_sidecar(name, upstream=address)
        return Pod(name=name, app=app, app_address=address, sidecar=proxy)

    async def start_sidecar(
        self, name: str, *, upstream: Address, traffic: Address = ("127.0.0.1", 0)
    ) -> Sidecar:
        """Ready when it says so; `traffic` is given where a killed one is started again."""
        process = await self.children.start(
            f"{name} drainproxy",
            *self.proxy,
            "run",
            *("--listen", f"{traffic[0]}:{traffic[1]}"),
            *("--upstream", f"http://{upstream[0]}:{upstream[1]}"),
            *("--admin", "127.0.0.1:0"),
            *("--propagation", PROPAGATION),
            *("--grace-period", f"{GRACE_S:g}s"),
            *("--control-socket", str(self.directory / f"{name.replace(' ', '-')}.sock")),
            *("--log-format", "json"),
        )
        addresses: dict[str, Address] = {}

        def ready(line: str) -> Sidecar | None:
            event = log_event(line)
            if event.get("event") == "listening":
                host, _, port = str(event["address"]).rpartition(":")
                addresses["admin" if event["listener"] == "admin" else "traffic"] = (host, int(port))
            if event.get("event") == "phase" and event.get("phase") == "ready":
                return Sidecar(process, traffic=addresses["traffic"], admin=addresses["admin"])
            return None

        return await process.says(ready)


def log_event(line: str) -> dict[str, object]:
    """A line of drainproxy's log; anything else is an empty event."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _running_on(line: str) -> Address | None:
    match = _RUNNING_ON.search(line)
    return (match[1], int(match[2])) if match else None
