"""The Date of a response that has none (RFC 9110 section 6.6.1), made once a second."""

from __future__ import annotations

import time

_line = (0, b"")


def date_line() -> bytes:
    """Return a Date field for now."""
    global _line  # noqa: PLW0603 - a one-line cache
    second = int(time.time())
    if _line[0] != second:
        # In the C locale, which Python leaves to time: nobody here sets another.
        _line = (second, time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n", time.gmtime(second)).encode())
    return _line[1]
