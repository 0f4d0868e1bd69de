"""TCP keep-alive: the kernel asks a peer that says nothing whether it is there (RFC 1122 section 4.2.3.6).

A peer that has vanished without a FIN, with its node or behind a cut cable, is found out; and on a path that
forgets idle flows, an idle one is none.
"""

from __future__ import annotations

import contextlib
import math
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drainproxy.proxy.settings import ProxySettings

MAX_SECONDS, MAX_PROBES = 32767, 127
"""The kernel takes no more (tcp(7))."""
Options = tuple[tuple[int, int, int], ...]
"""(level, option, value), as setsockopt takes them."""


def options(settings: ProxySettings) -> Options:
    """Return what is set on every TCP socket (tcp(7))."""
    tcp = socket.IPPROTO_TCP
    chosen: list[tuple[int, int, int]] = []
    if settings.tcp_keepalive_idle is not None:
        chosen += [
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (tcp, socket.TCP_KEEPIDLE, _seconds(settings.tcp_keepalive_idle)),
            (tcp, socket.TCP_KEEPINTVL, _seconds(settings.tcp_keepalive_interval)),
            (tcp, socket.TCP_KEEPCNT, min(settings.tcp_keepalive_probes, MAX_PROBES)),
        ]
    if settings.tcp_user_timeout is not None:
        chosen.append((tcp, socket.TCP_USER_TIMEOUT, math.ceil(settings.tcp_user_timeout * 1000)))
    return tuple(chosen)


def apply(wire: socket.socket, chosen: Options) -> None:
    """Set them, where it is TCP. What a listening socket has, accepted ones inherit."""
    if wire.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            # It may have ended already, which its owner is about to hear.
            for option in chosen:
                wire.setsockopt(*option)


def _seconds(duration: float) -> int:
    """Return whole ones, which is what the kernel counts."""
    return min(max(1, math.ceil(duration)), MAX_SECONDS)
