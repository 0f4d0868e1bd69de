"""An application that is not at 127.0.0.1: `localhost` finds it, and the log says where it may be."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.integration.application import Application
from tests.integration.scene import get
from tests.support.upstream import OK, answering

if TYPE_CHECKING:
    from tests.support.client import Client
    from tests.support.process import Proxy

pytestmark = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


async def admitted(proxy: Proxy) -> Client:
    """Return a client: the door opens a few turns of the loop after the application is back."""
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            return await proxy.client()
        await asyncio.sleep(0.01)


async def test_localhost_finds_an_application_on_either_address(start):
    """On ::1 alone and on 127.0.0.1 alone; when it moves from the one to the other it is found again."""
    async with Application(answering(OK), host="127.0.0.1") as first:
        port = first.port
        proxy = await start(f"http://localhost:{port}")
        assert (await (await proxy.client()).ask(get())).body == b"ok"
    await proxy.line("application", state="refuses connections")
    second = Application(answering(OK))
    second._wire.close()
    second._wire = socket.create_server(("::1", port), family=socket.AF_INET6)
    second._wire.setblocking(False)
    async with second:
        await proxy.line("application", state="accepts connections")
        answer = await (await admitted(proxy)).ask(get())
        assert answer.body == b"ok", (answer, proxy.lines)
        assert second.accepted


async def test_an_application_elsewhere_is_told_of_with_where_it_is(start):
    """The line names the address that somebody listens at."""
    application = Application(answering(OK))
    application._wire.close()
    application._wire = socket.create_server(("::1", 0), family=socket.AF_INET6)
    application._wire.setblocking(False)
    async with application:
        address = f"http://127.0.0.1:{application.port}"
        proxy = await start(address, ready=False)
        line = await proxy.line("unreachable")
        assert line["upstream"] == address
        assert line["why"].startswith("somebody listens on its port at ::1: set `upstream`")
        async with await proxy.client() as client:
            assert b"upstream-refused" in (await client.ask(get())).body
        assert (await proxy.line("request"))["detail"] == f"nobody listens at {address}"
