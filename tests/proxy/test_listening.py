"""What the kernel tells of who listens."""

from __future__ import annotations

import socket

import pytest

from drainproxy.proxy.upstream.listening import Kernel
from tests.support.descriptors import none_left


@pytest.fixture
def kernel():
    """One whose socket is closed at the end."""
    made = Kernel()
    yield made
    made.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_listening_socket_is_seen_and_its_end_too(kernel, host) -> None:
    """At the very address, or at every one."""
    wire = socket.create_server((host, 0))
    port = wire.getsockname()[1]
    assert kernel.listens("127.0.0.1", port)
    with socket.create_connection(("127.0.0.1", port)), wire.accept()[0]:
        wire.close()
        # A connection that stands is nobody who listens.
        assert kernel.listens("127.0.0.1", port) is False


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_a_socket_of_both_families_is_told_from_one_of_ipv6_alone(kernel) -> None:
    """As a SYN would find them."""
    for dual in (True, False):
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=dual) as wire:
            port = wire.getsockname()[1]
            assert kernel.listens("::1", port) is True
            assert kernel.listens("127.0.0.1", port) is dual


def test_a_socket_that_is_not_accepted_from_listens_all_the_same(kernel) -> None:
    """Its backlog is full: slow, not gone."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as wire, socket.socket() as first:
        first.connect(wire.getsockname())
        assert kernel.listens(*wire.getsockname()) is True


def test_the_addresses_of_a_port_are_told(kernel) -> None:
    """For the log."""
    with socket.create_server(("127.0.0.1", 0)) as wire:
        assert kernel.places(wire.getsockname()[1]) == ["127.0.0.1"]
    assert kernel.places(1) == []


def test_without_netlink_nothing_is_known(kernel, monkeypatch) -> None:
    """In a sandbox that does not have it; and it is not tried again."""
    tried = []

    def refused(*how):
        tried.append(how)
        raise PermissionError

    monkeypatch.setattr("drainproxy.proxy.upstream.listening.socket.socket", refused)
    for _ in range(3):
        assert kernel.listens("127.0.0.1", 1) is None
    assert kernel.places(1) == []
    assert len(tried) == 1


def test_without_a_descriptor_nothing_is_known_and_it_is_asked_again(kernel, monkeypatch) -> None:
    """Neither there nor gone; once one is free the kernel is asked as before."""
    with socket.create_server(("127.0.0.1", 0)) as wire:
        port = wire.getsockname()[1]
        with none_left():
            assert kernel.listens("127.0.0.1", port) is None
            assert kernel.places(port) == []
        assert kernel.listens("127.0.0.1", port) is True
    assert kernel.listens("127.0.0.1", port) is False
