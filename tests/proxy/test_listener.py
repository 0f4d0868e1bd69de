"""Sockets: bound as asked, and closed so that nobody who has connected is lost."""

from __future__ import annotations

import socket

import pytest

from drainproxy.addresses import ListenAddress
from drainproxy.errors import ListenError
from drainproxy.proxy.wire.listening_socket import address_of, bind
from tests.support.client import Client
from tests.support.house import House
from tests.support.upstream import Upstream, answering
from tests.support.words import GET


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1:"), ("localhost", "127.0.0.1:"), ("::1", "[::1]:")]
)
def test_an_address_is_bound_as_asked(host: str, shown: str) -> None:
    """Port 0 becomes a real one, and is told."""
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with bind(ListenAddress(host, 0)) as wire:
        port = wire.getsockname()[1]
        assert port > 0
        assert address_of(wire) in {f"{shown}{port}", f"[::1]:{port}"}
        assert not wire.getblocking()


def test_without_a_host_both_families_are_served() -> None:
    """Probes go to the pod's address, whichever it is."""
    with bind(ListenAddress(None, 0)) as wire:
        port = wire.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        if wire.family == socket.AF_INET6:
            with socket.create_connection(("::1", port), timeout=5):
                pass


def test_a_port_in_use_says_which() -> None:
    """An operator reads it on stderr."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError, match=f"cannot listen on 127.0.0.1:{port}: .*in use"):
            bind(ListenAddress("127.0.0.1", port))


def test_a_host_that_does_not_exist_says_so() -> None:
    """Not a traceback."""
    with pytest.raises(ListenError, match="cannot listen on nowhere.invalid:1"):
        bind(ListenAddress("nowhere.invalid", 1))


async def test_many_who_connect_in_the_last_moment_are_all_answered() -> None:
    """Connected, and their requests on the wire, before anything was accepted."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        wires = [socket.create_connection(("127.0.0.1", house.port), timeout=5) for _ in range(50)]
        clients = [Client(wire) for wire in wires]
        for client in clients:
            client.wire.send(GET)
        await house.sweep()
        assert [(await client.final()).status for client in clients] == [200] * 50
        for client in clients:
            client.close()


async def test_once_shut_callers_are_refused() -> None:
    """The last door is closed last, and then it is closed."""
    async with Upstream(answering()) as upstream, House(upstream) as house:
        assert await house.sweep() == 0
        house.listener.shut()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", house.port), timeout=5)
