"""What lines and spans show of something that a client wrote: short, escaped, without secrets. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from drainproxy.proxy.message.headers import name_of

if TYPE_CHECKING:
    from drainproxy.proxy.message.parser import RequestHead

MAX_SHOWN_CHARS: Final = 200
"""Of a path, a User-Agent, a request's name."""

_FIELDS: Final = {b"host": "host", b"user-agent": "user_agent", b"x-request-id": "request_id"}


_TRACEPARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]*)?"
)
"""Trace Context sections 3.2.2 and 4.3: what later versions put behind a dash belongs to them."""


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


def trace_of(head: RequestHead) -> dict[str, str]:
    """Return the trace that a client says its request is part of, where none of ours begins: no span is ours.

    Two are two readings, and none (Trace Context section 4.3).
    """
    came = [line for line in head.fields if name_of(line) == b"traceparent"]
    found = _TRACEPARENT.fullmatch(came[0].partition(b":")[2].strip()) if len(came) == 1 else None
    if found is None or (found[1] == b"00" and found[3]):
        return {}
    return {"trace_id": found[2].decode()}
