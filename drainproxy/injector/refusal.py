"""How a pod is refused the sidecar: with every reason, before anything of it has changed.

Called by whoever in the injector decides or changes something.
"""

from typing import NoReturn

from drainproxy.errors import InjectionRefused


def refuse(*problems: str, result: str = "refused") -> NoReturn:
    """Raise InjectionRefused."""
    raise InjectionRefused(result, list(problems))
