"""An answer's head that llhttp refuses and every other proxy passes on, read again. Pure.

Only where there is one reading of it, and never a request's: what goes on is written afresh, so nobody behind
us reads it another way. Called by parser.py, for the few faults that it knows.
"""

from __future__ import annotations

import re
from typing import Final

FAULTS: Final = frozenset(
    ("Duplicate Content-Length", "Invalid character in Content-Length", "Invalid header value char")
)
"""llhttp's, after which an answer may still have one reading."""

_FIELD: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\xff]*)")
"""With DEL in the value (RFC 9110 section 5.5 would have it replaced), but for no other control character."""
_CONTENT_LENGTH: Final = b"content-length"


def read_fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Return the fields of a whole head, its empty line included. Raises ValueError where it has no one
    reading: a bare CR or LF, a folded line, a name that is no token, lengths that differ."""
    fields: list[tuple[bytes, bytes]] = []
    length = None
    for line in head[:-4].split(b"\r\n")[1:]:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise ValueError("not a field")
        name, value = match[1], match[2].rstrip(b" \t")
        if name.lower() == _CONTENT_LENGTH:
            # RFC 9112 section 6.3: one length that is said several times is one length.
            said = {each.strip(b" \t") for each in value.split(b",")}
            if len(said | {length} - {None}) != 1:
                raise ValueError("lengths that differ")
            if length is not None:
                continue
            (length,) = said
            value = length
        fields.append((name, value))
    return fields
