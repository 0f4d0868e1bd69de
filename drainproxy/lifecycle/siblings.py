"""Which other pods serve what this one serves? The data plane asks; whoever knows the cluster answers.

Beside port.py: the data plane knows nothing of EndpointSlices, the cluster's room nothing of requests.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sibling:
    """Where another pod of the same Service listens."""

    host: str
    port: int
    near: bool
    """It is in this pod's zone."""


class Siblings(Protocol):
    """Asked when it is needed, and not before."""

    async def read(self, port: int) -> list[Sibling] | None:
        """Return every ready pod at the Service port that leads to our `port`; None: it cannot be told."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """What only pods of this workload share, and those who may read about them; empty: nothing is."""
