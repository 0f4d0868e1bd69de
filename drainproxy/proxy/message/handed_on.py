"""The field by which one pod tells its sibling that a request has been handed on: made and read. Pure.

Whatever it holds, a request that has it is handed on by nobody: two pods cannot pass one to and fro, of
whatever versions they are. What it holds proves that a pod of the same workload has sent it, so that what
that one has said of the client need not be said again; for anybody else it proves nothing and opens nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from drainproxy.proxy.message.headers import name_of, take_away

if TYPE_CHECKING:
    from collections.abc import Iterable

    from drainproxy.proxy.message.parser import RequestHead

NAME: Final = b"drainproxy-handoff"
SETS: Final = frozenset((NAME,))
MAX_AGE_S: Final = 60.0
"""For so long a proof holds: clocks of nodes differ, and what was overheard is to be of no use for long."""
_VALUE: Final = re.compile(rb"1; t=([0-9]{1,12}); mac=([0-9a-f]{64})")


def mark(head: RequestHead, target: bytes, keys: Iterable[bytes], now_s: float) -> None:
    """Put it on a request; `target`: as it goes on; `now_s`: time of day. Without a key it proves nothing."""
    take_away(head, SETS)
    moment = b"%d" % now_s
    key = next(iter(keys), None)
    proof = b"1" if key is None else b"1; t=%b; mac=%b" % (moment, _mac(key, moment, head.method, target))
    head.fields = [*_without(head), b"Drainproxy-Handoff: %b\r\n" % proof]


def strip(head: RequestHead, keys: Iterable[bytes], now_s: float) -> bool:
    """Take it off a request; return whether a pod of this workload has put it there."""
    match = _VALUE.fullmatch(head.noted.pop(NAME, b""))
    head.fields = _without(head)
    if match is None or abs(int(match[1]) - now_s) > MAX_AGE_S:
        return False
    return any(_same(match[2], _mac(key, match[1], head.method, head.target)) for key in keys)


def _without(head: RequestHead) -> list[bytes]:
    return [line for line in head.fields if name_of(line) != NAME]


def _same(one: bytes, other: bytes) -> bool:
    """Compare in a time that tells nothing."""
    import hmac  # noqa: PLC0415 - as below

    return hmac.compare_digest(one, other)


def _mac(key: bytes, moment: bytes, method: bytes, target: bytes) -> bytes:
    import hashlib  # noqa: PLC0415 - OpenSSL's digests, half a megabyte where nothing is handed on
    import hmac  # noqa: PLC0415 - the same

    said = b"\n".join((b"drainproxy handoff 1", moment, method, target))
    return hmac.new(key, said, hashlib.sha256).hexdigest().encode()
