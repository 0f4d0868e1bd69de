"""Without a descriptor nothing is learnt of the application: it is neither there nor gone."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING

import pytest

from drainproxy.addresses import UpstreamAddress
from drainproxy.errors import OutOfDescriptors, UpstreamRefused
from drainproxy.proxy.upstream.dialer import Dialer
from drainproxy.proxy.upstream.listening import Kernel
from drainproxy.proxy.upstream.presence import Presence
from drainproxy.proxy.upstream.probe import Answer, ask
from tests.integration.application import Application
from tests.support.descriptors import none_left
from tests.support.flavours import of_sources
from tests.support.house import House
from tests.support.upstream import answering
from tests.support.words import GET, OK

if TYPE_CHECKING:
    from collections.abc import Iterator


async def test_what_could_not_be_asked_is_not_refused() -> None:
    """No connect, no look into the kernel: callers are still let in, and the next one is served."""
    async with Application(answering(OK)) as application, House(application) as house:
        assert (await house.ask(GET)).body == b"ok"
        house.pool.close_idle()
        await house.until(lambda: not house.pool.open_count)
        with none_left():
            assert await ask(house.pool, house.loop.time() + 5) is Answer.SILENT
            with pytest.raises(OutOfDescriptors):
                await house.pool.connect_if_worthwhile(house.loop.time() + 5)
            house.pool.presence.failed()
            assert not house.pool.presence.fallen
        assert house.listener.accepting
        assert (await house.ask(GET)).body == b"ok"
        house.pool.close_idle()
        await house.until(lambda: not house.pool.open_count)


async def test_a_kernel_that_could_not_be_asked_at_first_is_asked_later() -> None:
    """The connect had taken the last descriptor: what the kernel knows is not given up for that."""
    loop = asyncio.get_running_loop()
    kernel = Kernel()
    with socket.create_server(("127.0.0.1", 0)) as wire:
        dialer = Dialer(UpstreamAddress("127.0.0.1", wire.getsockname()[1]), loop)
        presence = Presence(dialer, kernel.listens, loop)
        with none_left():
            presence.accepts()
            assert presence.look() is None
        presence.accepts()
        assert presence.look() is True
        with none_left():
            assert presence.look() is True
        kernel.close()
        with none_left():
            assert presence.look() is None
            assert not presence.fallen
    assert presence.look() is False
    assert presence.fallen
    kernel.close()


class Pressed(list[tuple[str, int]]):
    """Addresses of which the first one is asked while no descriptor is left."""

    def __iter__(self) -> Iterator[tuple[str, int]]:
        with none_left():
            yield self[0]
        yield from self[1:]


@of_sources("a list is one there, whatever its class iterates over")
async def test_a_refusal_at_another_address_does_not_speak_for_one_that_was_not_asked() -> None:
    """`localhost` is two addresses: nobody knows whether the application listens at the first."""
    loop = asyncio.get_running_loop()
    dialer = Dialer(UpstreamAddress("localhost", 1), loop)
    dialer.places = Pressed([("127.0.0.1", 1), ("127.0.0.1", 1)])
    with pytest.raises(OSError, match="Too many open files") as caught:
        await dialer.dial(asyncio.Protocol)
    assert caught.value.errno == errno.EMFILE


async def test_a_name_that_could_not_be_looked_up_is_no_refusal() -> None:
    """Resolvers have no word for it: they say that the name is not known."""
    loop = asyncio.get_running_loop()
    # What a first look-up loads is loaded.
    await loop.getaddrinfo("127.0.0.1", 1)
    dialer = Dialer(UpstreamAddress("application.invalid", 1), loop)
    with none_left(), pytest.raises(OSError, match="Too many open files") as caught:
        await dialer.dial(asyncio.Protocol)
    assert caught.value.errno == errno.EMFILE


async def test_a_door_that_cannot_be_opened_for_want_of_a_descriptor_is_tried_again() -> None:
    """The application is back, and its callers are let in as soon as a descriptor is there."""
    application = Application(answering(OK))
    port = application.port
    async with House(f"http://127.0.0.1:{port}") as house:
        async with application:
            assert (await house.ask(GET)).body == b"ok"
        with pytest.raises(UpstreamRefused):
            await house.pool.connect(house.loop.time() + 5)
        await house.until(lambda: not house.listener.accepting and not len(house.tasks))
        async with Application(answering(OK), port=port):
            with none_left():
                house.pool.presence.accepts()
                await house.until(lambda: bool(house.diary.of("defect")))
                assert not house.listener.accepting
            assert "Too many open files" in house.diary.lines.pop()["failure"]
            await house.until(lambda: house.listener.accepting)
            assert (await house.ask(GET)).body == b"ok"
            house.pool.close_idle()
            await house.until(lambda: not house.pool.open_count)
