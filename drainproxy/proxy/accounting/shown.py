"""What lines and spans show of something that a client wrote: short, escaped, without secrets. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drainproxy.proxy.message.parser import RequestHead

MAX_SHOWN_CHARS: Final = 200
"""Of a path, a User-Agent, a request's name."""

_FIELDS: Final = {b"host": "host", b"user-agent": "user_agent", b"x-request-id": "request_id"}


def shown(value: bytes) -> str:
    """Return what a line shows of something that a client wrote."""
    return value[:MAX_SHOWN_CHARS].decode("ascii", "backslashreplace")


def shown_path(target: bytes) -> str:
    """Return the path without its query, and nothing of an authority: both may hold secrets."""
    return shown(target.split(b"?", 1)[0]) if target[:1] == b"/" else ""


def of_head(head: RequestHead) -> dict[str, str]:
    """Return the fields of a line that tell of a request."""
    line = {"method": shown(head.method), "path": shown_path(head.target)}
    line["protocol"] = "HTTP/1.1" if head.http_1_1 else "HTTP/1.0"
    for field, key in _FIELDS.items():
        if field in head.noted:
            line[key] = shown(head.noted[field])
    return line
