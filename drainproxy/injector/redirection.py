"""The init container that leads packets to the sidecar: what capture by redirect adds to a pod.

Pure. It is the only thing here that has a right: cli/redirect_command.py is what runs in it, and says why it
needs it. Called by patch.py.
"""

from collections.abc import Iterable
from typing import Any

from drainproxy.injector.annotations import Options
from drainproxy.injector.pod_checks import REDIRECT_NAME, resources
from drainproxy.injector.takeover import Taken


def container(taken: Iterable[Taken], image: str, options: Options) -> dict[str, Any]:
    """Return it. It ends before the application starts, and runs anew with the pod's network."""
    return {
        "name": REDIRECT_NAME,
        "image": image,
        "imagePullPolicy": options.image_pull_policy,
        "args": ["redirect", *(f"{each.callers}:{each.listens}" for each in taken)],
        # No more than the sidecar's own, so that the pod needs no larger node.
        "resources": resources(options),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": False,
            "runAsUser": 0,
            "runAsGroup": 0,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
