"""From where the application is connected to: not 127.0.0.1, from where the pod's own processes come."""

from __future__ import annotations

import asyncio
import socket

import pytest

from drainproxy import config
from drainproxy.addresses import UpstreamAddress
from drainproxy.errors import ConfigError
from drainproxy.proxy.upstream.dialer import Dialer


async def seen(address: UpstreamAddress, wire: socket.socket, source: str | None) -> str:
    """Return from where an application with this listening socket is connected to."""
    loop = asyncio.get_running_loop()
    wire.setblocking(False)
    transport = await Dialer(address, loop, source).dial(asyncio.Protocol)
    accepted, (host, *_) = await loop.sock_accept(wire)
    accepted.close()
    transport.close()
    return str(host)


@pytest.mark.parametrize(
    ("host", "listens", "source", "sees"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.6", "127.0.0.6"),
        ("127.0.0.1", "0.0.0.0", "127.0.0.6", "127.0.0.6"),
        ("localhost", "127.0.0.1", "127.0.0.6", "127.0.0.6"),
        ("127.0.0.9", "127.0.0.9", "127.0.0.7", "127.0.0.7"),
        ("localhost", "::1", "127.0.0.6", "::1"),
        ("::1", "::1", "127.0.0.6", "::1"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"),
    ],
)
async def test_an_application_on_loopback(host, listens, source, sees):
    """It sees the address that is set; IPv6 has one address of loopback, and that stays."""
    family = socket.AF_INET6 if ":" in listens else socket.AF_INET
    with socket.create_server((listens, 0), family=family) as wire:
        address = UpstreamAddress(host, wire.getsockname()[1])
        assert await seen(address, wire, source) == sees


async def test_each_of_many_dials_asks_at_both_addresses():
    """What one has found out is no reason for another, in the middle of its own, to leave an address out."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as wire:
        dialer = Dialer(UpstreamAddress("localhost", wire.getsockname()[1]), loop)
        midway = iter(dialer.places)
        assert next(midway)[0] == "127.0.0.1"
        transport = await dialer.dial(asyncio.Protocol)
        assert next(midway)[0] == "::1"
        assert [host for host, _ in dialer.places] == ["::1", "127.0.0.1"]
        transport.close()


async def test_an_application_at_another_address():
    """Who is not on loopback could not answer: it sees the pod's own address, as ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_route:
        if any_route.connect_ex(("192.0.2.1", 9)):
            pytest.skip("this machine has no address but loopback")
        own = any_route.getsockname()[0]
    with socket.create_server((own, 0)) as wire:
        assert await seen(UpstreamAddress(own, wire.getsockname()[1]), wire, "127.0.0.6") == own


async def test_as_many_ports_as_before():
    """The port is chosen at the connect: two connections to different places may have the same one."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as wire:
        address = UpstreamAddress("127.0.0.1", wire.getsockname()[1])
        dialer = Dialer(address, loop, "127.0.0.6")
        transports = [await dialer.dial(asyncio.Protocol) for _ in range(32)]
        options = {each.get_extra_info("socket").getsockopt(socket.IPPROTO_IP, 24) for each in transports}
        assert options == {1}, "IP_BIND_ADDRESS_NO_PORT"
        for each in transports:
            each.close()


@pytest.mark.parametrize("text", ["10.0.0.1", "::1", "localhost", "127.0.0", "0.0.0.0"])
def test_only_an_ipv4_address_of_loopback(text):
    """From another one no application on loopback could be reached."""
    with pytest.raises(ConfigError, match="upstream_source"):
        config.load({"DRAINPROXY_UPSTREAM_SOURCE": text})


def test_the_default():
    """Istio has made it known."""
    assert config.load({}).proxy.upstream_source == "127.0.0.6"
