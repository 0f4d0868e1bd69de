"""A real process on either event loop, and what every test says of it afterwards."""

from __future__ import annotations

import contextlib
import resource
import socket
from typing import TYPE_CHECKING

import pytest

from tests.integration.application import Application
from tests.integration.scene import short
from tests.support.network import joined
from tests.support.process import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.integration.scene import Start
    from tests.support.authority import Authority
    from tests.support.network import Namespace


@pytest.fixture(params=["uvloop", "asyncio"])
def loop_kind(request: pytest.FixtureRequest) -> str:
    """The event loop of the process under test; the test's own is the standard one."""
    return request.param


@pytest.fixture
async def upstream() -> AsyncIterator[Application]:
    """An application in which the test itself takes every connection."""
    async with Application() as upstream:
        yield upstream


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Three thousand at least, for clients and an application in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3000:
        pytest.skip(f"{hard} descriptors are too few")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class FreePort:
    """A port on which nobody listens, and that nobody else takes, until it is left."""

    def __init__(self) -> None:
        self._wire = socket.socket()
        self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._wire.bind(("127.0.0.1", 0))
        self.number: int = self._wire.getsockname()[1]

    def leave(self) -> int:
        """Give the port up, for the caller to take."""
        self._wire.close()
        return self.number


@pytest.fixture
def free_port() -> Iterator[FreePort]:
    """A port for an application that comes later."""
    port = FreePort()
    yield port
    port.leave()


@pytest.fixture
def nobody(free_port: FreePort) -> str:
    """The address of an application that is not there."""
    return f"http://127.0.0.1:{free_port.number}"


@pytest.fixture
async def start(loop_kind: str) -> AsyncIterator[Start]:
    """`await start(upstream)` runs a proxy, on short settings unless others are given, and waits for ready.

    At the end none of them may have logged a defect or written to stderr.
    """
    proxies: list[Proxy] = []
    async with contextlib.AsyncExitStack() as stack:

        async def start(*upstreams: Application | str, ready: bool = True, **settings: str) -> Proxy:
            addresses = [each if isinstance(each, str) else each.address for each in upstreams]
            proxy = Proxy(upstreams=addresses, loop=loop_kind, **short(settings))
            await stack.enter_async_context(proxy)
            proxies.append(proxy)
            if ready:
                await proxy.ready()
            return proxy

        yield start
    for proxy in proxies:
        complaints = [line for line in proxy.lines if line["event"] in {"defect", "library"}]
        assert not complaints, f"the process complained: {complaints}"
        assert proxy._child.stderr is not None
        said = (await proxy._child.stderr.read()).decode()
        assert not said, f"it wrote to stderr: {said[-2000:]}"


@pytest.fixture
async def neighbours() -> AsyncIterator[tuple[Namespace, Namespace]]:
    """Two network namespaces with a cable between them: the pod's, and another pod's."""
    async with joined() as both:
        yield both


@pytest.fixture
def tls(authority: Authority) -> dict[str, str]:
    """The settings of a listener with TLS."""
    certificate, key = authority.issue()
    return {"listen": "https://127.0.0.1:0", "tls_certificate": str(certificate), "tls_key": str(key)}
