"""An error becomes bytes here and nowhere else: status, body, close or keep. Pure.

Bodies are fixed and tiny, echo nothing of the input and name no version; `Proxy-Status` (RFC 9209) says at
a glance whether a 502 is ours or the application's.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drainproxy.errors import RequestError


ALLOW: Final = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"


def options(*, date: bytes, close: bool) -> bytes:
    """Return the answer to an OPTIONS that was not to be forwarded any further (RFC 9110 section 9.3.7)."""
    end = b"Connection: close\r\n\r\n" if close else b"\r\n"
    return b"".join((b"HTTP/1.1 200 OK\r\n", date, ALLOW, b"Content-Length: 0\r\n", end))


def reply(error: RequestError, *, date: bytes, head_only: bool, close: bool) -> bytes:
    """Return the whole response for `error`; `date` is its Date line."""
    status = HTTPStatus(error.status)
    body = f"{status.value} {status.phrase}: {error.reason}\n".encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode(),
        date,
        b"Content-Type: text/plain; charset=utf-8\r\n",
        b"Content-Length: %d\r\n" % len(body),
        b"Cache-Control: no-store\r\n",
        f'Proxy-Status: drainproxy; error={error.proxy_status}; details="{error.reason}"\r\n'.encode(),
    ]
    if error.retry_after_s is not None:
        lines.append(b"Retry-After: %d\r\n" % error.retry_after_s)
    if error.status == 405:
        lines.append(ALLOW)
    if close:
        lines.append(b"Connection: close\r\n")
    return b"".join([*lines, b"\r\n", b"" if head_only else body])


def fields(error: RequestError) -> list[tuple[bytes, bytes]]:
    """Return the fields of the response for `error`, as HTTP/2 writes them; it has no body there."""
    said = f'drainproxy; error={error.proxy_status}; details="{error.reason}"'
    listed = [
        (b":status", b"%d" % error.status),
        (b"cache-control", b"no-store"),
        (b"proxy-status", said.encode()),
    ]
    if error.retry_after_s is not None:
        listed.append((b"retry-after", b"%d" % error.retry_after_s))
    return listed
