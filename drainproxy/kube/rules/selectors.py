"""Whom does a LabelSelector choose?

Pure. What the cluster holds has been validated, what somebody has typed into a file has not: nothing here
takes a shape for granted. Called by survey.py, network_policy.py and whoever judges a selector.
"""

from collections.abc import Mapping
from typing import Any


def mapping(value: Any) -> dict[str, Any]:
    """Return what should be a mapping."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    """Return what should be a list."""
    return value if isinstance(value, list) else []


def fits(selector: Any, labels: Mapping[str, str]) -> bool:
    """Tell whether a LabelSelector chooses what has these labels; an empty one does, and an
    unknown operator counts as yes."""
    if not mapping(mapping(selector).get("matchLabels")).items() <= labels.items():
        return False
    for each in map(mapping, listed(mapping(selector).get("matchExpressions"))):
        value, values = labels.get(str(each.get("key"))), listed(each.get("values"))
        chosen = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not chosen.get(str(each.get("operator")), True):
            return False
    return True
