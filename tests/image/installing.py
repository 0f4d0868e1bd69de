"""image/install run without an engine, with an index of the test's choice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.image.engine import ROOT, run

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


def install(
    step: str, prefix: Path, *, root: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run one step of the image's build into `prefix`."""
    # The bundles would win over PIP_CERT; a build has neither.
    bundles = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if "PIP_CERT" in environment else ()
    foreign = ("PYTHONPATH", *bundles)
    inherited = {name: text for name, text in os.environ.items() if name not in foreign}
    return run(root / "image" / "install", step, prefix, timeout=300, env={**inherited, **environment})
