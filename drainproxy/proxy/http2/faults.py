"""What ends an HTTP/2 connection, and the code that says why (RFC 9113 section 7).

Raised by what reads frames, caught by the connection. Stays of the sources where the rest is compiled, as
every exception does: decision 0023.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drainproxy.metrics import Excess


class Code(IntEnum):
    """Error codes (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB
    HTTP_1_1_REQUIRED = 0xD


class FrameFault(Exception):
    """Bytes that end a connection, with the code that says why."""

    before = b""
    """The frames of the same read that come before it, and pass."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


class Abuse(FrameFault):
    """More than a client needs. `kind` is the label of `h2_abuse_total`."""

    def __init__(self, kind: Excess) -> None:
        super().__init__(Code.ENHANCE_YOUR_CALM, f"too much: {kind}")
        self.kind = kind
