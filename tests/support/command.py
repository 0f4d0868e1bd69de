"""The `drainproxy` command as a real process, in an environment of the test's choice."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

INSTALLED = {"PYTHONSAFEPATH": "1"}
"""For `python -m drainproxy`: the package as it is installed, and not the sources in this directory."""


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without what would configure drainproxy, and with `settings`."""
    kept = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("DRAINPROXY_", "KUBERNETES_")) and not name.lower().endswith("_proxy")
    }
    return {**kept, **settings}


def drainproxy(
    *arguments: str, env: dict[str, str] | None = None, timeout_s: float = 60.0, text: bool = True
) -> subprocess.CompletedProcess[Any]:
    """Run the command to its end; what it says is bytes unless it is `text`."""
    return subprocess.run(
        [sys.executable, "-m", "drainproxy", *arguments],
        env=environment(**INSTALLED, **(env or {})),
        capture_output=True,
        text=text,
        timeout=timeout_s,
        check=False,
    )
