"""The live page over /status: one file, no asset from anywhere, nothing it could be made to run.

page.html holds it, read once. The policy names its own style and script by their hash.
"""

import base64
import hashlib
import re
from importlib.resources import files

PAGE = files("drainproxy.admin").joinpath("page.html").read_text("utf-8")


def _source(element: str) -> str:
    """Return the CSP source of the page's one inline `element` (CSP Level 3, section 2.3.1)."""
    found = re.search(f"<{element}>(.*?)</{element}>", PAGE, re.DOTALL)
    assert found is not None, f"page.html has no {element}"
    digest = hashlib.sha256(found[1].encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {_source('style')}; script-src {_source('script')};"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
