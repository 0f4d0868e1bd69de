"""What is found beside a pod, and the pod as it is with the sidecar.

Pure. Shared by surroundings.py and policies.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from drainproxy.injector.objects import Path, Thing
from drainproxy.injector.patch import Injected
from drainproxy.injector.takeover import Taken


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not follow by itself. A remark neither bypasses nor cuts off."""

    thing: Thing
    path: Path
    """Where in the thing the line is that has to change."""
    text: str
    bypasses: bool = False
    cuts_off: bool = False
    fix: Callable[[], object] | None = None
    """Writes it, in the thing."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A workload and what has become of its pod."""

    thing: Thing
    injected: Injected

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.thing.name

    @property
    def pod(self) -> Mapping[str, Any]:
        """The pod, with the sidecar."""
        return self.injected.pod

    @property
    def labels(self) -> Mapping[str, Any]:
        """Its labels."""
        labels: Mapping[str, Any] = self.injected.pod["metadata"]["labels"]
        return labels

    @property
    def propagation(self) -> str:
        """The preset that it runs with."""
        return str(self.injected.config.lifecycle.propagation)

    @property
    def renumbered(self) -> list[Taken]:
        """The ports for which callers need another number than before."""
        return [taken for taken in self.injected.taken if taken.callers != self.before(taken)]

    def before(self, taken: Taken) -> int:
        """Return the number that callers used before."""
        return taken.callers if taken.door in ("env", "address", "redirect") else taken.application
