"""The end of a listening socket: who comes too late is refused, who had connected is served."""

from __future__ import annotations

import socket

import pytest

from drainproxy.addresses import ListenAddress
from drainproxy.proxy.wire.listening_socket import bind, drop_new_callers

HOSTS = {"IPv4": "127.0.0.1", "both families": None}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_after_the_filter_nobody_connects_and_who_has_is_heard(host):
    """A SYN is ignored, the data of a connection that was complete is not."""
    with bind(ListenAddress(host, 0)) as wire:
        port = wire.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5) as early:
            drop_new_callers(wire)
            with pytest.raises(TimeoutError):
                socket.create_connection(("127.0.0.1", port), timeout=0.2)
            early.sendall(b"heard")
            accepted, _ = wire.accept()
            with accepted:
                accepted.settimeout(5)
                assert accepted.recv(5) == b"heard"
