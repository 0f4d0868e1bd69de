"""What the owner of a pod is told of its injection.

Pure. Made by review.py, sent by notices.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Reference = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that an owner's pods are told of."""

    owner: Reference
    """As it stands among a pod's ownerReferences."""
    namespace: str
    reason: str
    note: str
    warning: bool = False
