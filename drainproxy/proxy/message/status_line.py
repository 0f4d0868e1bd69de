"""Which status does a line say? Pure (RFC 9112 section 4)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from drainproxy import errors

USUAL: Final = {
    f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode(): status.value for status in HTTPStatus
}
"""Nearly every status line -> status."""
OK_LINE: Final = b"HTTP/1.1 200 OK\r\n"
OK_LINE_BYTES: Final = len(OK_LINE)
"""The most usual one."""
_REASON: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
"""RFC 9112 section 4. llhttp takes control characters too."""


def unusual(line: bytes) -> tuple[int, bytes, bool]:
    """Return an unusual line's status, as what it goes on, and whether it is HTTP/1.1. Raises
    UpstreamMalformed."""
    # llhttp knows more protocols than HTTP, and 1.1 is the highest version this side speaks.
    if line[:9] not in {b"HTTP/1.0 ", b"HTTP/1.1 "}:
        raise errors.UpstreamMalformed("not HTTP/1")
    if not line[9:12].isdigit() or line[12:13] not in {b" ", b""} or int(line[9:12]) < 100:
        raise errors.UpstreamMalformed("the status is not one of 100 to 999")
    if not _REASON.fullmatch(line, 12):
        raise errors.UpstreamMalformed("a control character in the reason")
    status = int(line[9:12])
    return status, b"HTTP/1.1 %d %b\r\n" % (status, line[13:]), line[:8] == b"HTTP/1.1"
