"""The Date of a response that has none (RFC 9110 section 6.6.1), made once a second."""

from __future__ import annotations

import time
from email.utils import formatdate

_line = (0, b"")


def date_line() -> bytes:
    """Return a Date field for now."""
    global _line  # noqa: PLW0603 - a one-line cache
    second = int(time.time())
    if _line[0] != second:
        _line = (second, b"Date: %b\r\n" % formatdate(second, usegmt=True).encode())
    return _line[1]
