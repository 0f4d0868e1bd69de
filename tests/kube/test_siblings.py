"""Who the siblings are, by EndpointSlices: the ready pods at the same Service port, and their key."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from drainproxy.kube.slices.siblings import MAX_SIBLINGS, SiblingReader
from drainproxy.lifecycle.port import Sibling
from drainproxy.proxy.message import handed_on
from drainproxy.proxy.message.parser import RequestReader
from drainproxy.proxy.settings import ProxySettings
from tests.kube.cluster import pod
from tests.kube.premises import ME, premises
from tests.kube.server import fail, page
from tests.support.client import Client
from tests.support.clock import over_sockets
from tests.support.cluster.objects import Endpoint, endpoint_slice
from tests.support.cluster.resources import SLICES
from tests.support.upstream import Upstream
from tests.support.words import get, ok

if TYPE_CHECKING:
    from tests.support.upstream import Connection

MINE = Endpoint("pod-u-1", "u-1", "10.0.0.1", zone="a")
PORT = 28080


def two(**how: Any) -> Endpoint:
    """Another pod's row."""
    return Endpoint(**{"pod": "web-2", "uid": "u-2", "address": "10.0.0.2", "zone": "a", **how})


def in_slice(*rows: Endpoint, **how: Any) -> dict[str, Any]:
    """A slice of the Service `web`, as the API server writes it."""
    thing = endpoint_slice("web-1", rows, **how)
    thing["metadata"]["resourceVersion"] = "7"
    return thing


def named(thing: dict[str, Any], name: str) -> dict[str, Any]:
    """The same slice of another port."""
    return {**thing, "ports": [{**thing["ports"][0], "name": name}]}


class Beside(Upstream):
    """A sibling at the same port of another address, and what it was asked."""

    def __init__(self, port: int) -> None:
        super().__init__(self._answer)
        self._wire.close()
        self._wire = socket.create_server(("127.0.0.2", port))
        self._wire.setblocking(False)
        self.asked: list[Any] = []

    async def _answer(self, connection: Connection) -> None:
        while (request := await connection.read_request()).start:
            self.asked.append(request)
            await connection.send(ok(b"sibling"))


@pytest.mark.parametrize(
    ("slices", "found"),
    [
        ([in_slice(MINE, two())], [Sibling("10.0.0.2", PORT, near=True)]),
        ([in_slice(MINE, two(zone="b"))], [Sibling("10.0.0.2", PORT, near=False)]),
        ([in_slice(MINE, two(ready=False))], []),
        ([in_slice(MINE, two(ready=None, serving=None))], [Sibling("10.0.0.2", PORT, near=True)]),
        # With publishNotReadyAddresses every row is ready.
        ([in_slice(MINE, two(serving=False))], []),
        ([in_slice(MINE, two(terminating=True))], []),
        ([in_slice(MINE)], []),
        ([in_slice(two())], []),
        # The same Service port may have another number in another pod.
        ([in_slice(MINE), in_slice(two(), port=8080)], [Sibling("10.0.0.2", 8080, near=True)]),
        ([in_slice(MINE), named(in_slice(two(), port=9090), "metrics")], []),
        ([in_slice(MINE, two(), port=1)], []),
        ([in_slice(MINE), in_slice(two(), service="other")], []),
        # One that came before it was known whose it is.
        ([in_slice(two()), in_slice(MINE)], [Sibling("10.0.0.2", PORT, near=True)]),
        # A pod with two addresses is one sibling.
        (
            [in_slice(MINE, two()), in_slice(two(address="fd00::2"), family="IPv6")],
            [Sibling("10.0.0.2", PORT, near=True)],
        ),
        ([in_slice(MINE, two(address="fd00::2"), family="IPv6")], [Sibling("fd00::2", PORT, near=True)]),
        ([in_slice(MINE, two(address="b.example"), family="FQDN")], []),
        ([in_slice(MINE, two(), two())], [Sibling("10.0.0.2", PORT, near=True)]),
    ],
)
@over_sockets
async def test_the_ready_pods_at_the_same_service_port(slices, found, authority, credentials, monkeypatch):
    """Nobody else: not this pod, not those that leave, no other Service, no other port."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [page(slices)]
        reader = SiblingReader(ME, here.settings, here.metrics, here.complain)
        assert await reader.read(PORT) == found
        assert here.complaints == []


@over_sockets
async def test_own_services_alone_are_asked_for_once_they_are_known(authority, credentials, monkeypatch):
    """And their UIDs are the keys; there are only so many siblings to choose from."""
    async with premises(authority, credentials, monkeypatch) as here:
        many = [two(uid=str(number), address=f"10.0.{number >> 8}.{number & 255}") for number in range(400)]
        here.server.script["list"] = [page([in_slice(MINE, *many)])]
        reader = SiblingReader(ME, here.settings, here.metrics, here.complain)
        assert reader.keys == ()
        reader.note(in_slice(MINE, two()))
        assert reader.keys == (b"uid-of-web",)
        found = await reader.read(PORT)
        assert found is not None
        assert len(found) == MAX_SIBLINGS
        (asked,) = here.server.asked
        assert asked.query["labelSelector"] == "kubernetes.io/service-name in (web)"
        assert "watch" not in asked.query


@over_sockets
async def test_a_cluster_that_cannot_be_asked_says_nothing(authority, credentials, monkeypatch):
    """And is not asked harder for it."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [fail(403)]
        reader = SiblingReader(ME, here.settings, here.metrics, here.complain)
        assert await reader.read(PORT) is None
        assert [each[:2] for each in here.complaints] == [("siblings", "denied")]


async def test_a_pod_whose_application_falls_hands_on_to_the_one_beside_it(tmp_path):
    """A whole process: found by its slices, marked so that the sibling can tell, and counted."""
    with socket.create_server(("127.0.0.3", 0)) as free:
        port = free.getsockname()[1]
    how = {"handoff": "on", "listen": f"127.0.0.1:{port}"}
    async with Beside(port) as sibling, pod(tmp_path, **how) as it:
        rows = [Endpoint(it.member.name, it.member.uid), Endpoint("web-2", "other", "127.0.0.2")]
        it.api.store.put(SLICES, endpoint_slice("web-abcde", rows, port=port))
        await it.looked()
        await it.application.close()
        await it.proxy.line("application")
        client = await it.proxy.client()
        answer = await client.ask(get("/x"))
        assert (answer.body, answer.one(b"connection")) == (b"sibling", b"close")
        (request,) = sibling.asked
        field = b"Drainproxy-Handoff: " + request.one(b"drainproxy-handoff")
        head = RequestReader(ProxySettings()).feed(b"GET /x HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n")
        assert head is not None
        assert handed_on.strip(head[0], (b"uid-of-web",), time.time())
        numbers = await it.proxy.metrics()
        assert numbers['handoff_total{outcome="answered"}'] == 1
        assert [each for each in it.asked() if "endpointslices" in each] == ["list endpointslices"] * 2


async def test_after_a_drain_that_its_cap_has_ended_callers_are_served_by_siblings(tmp_path):
    """Past the drain's deadline, while they come, and never until SIGKILL."""
    with socket.create_server(("127.0.0.3", 0)) as free:
        port = free.getsockname()[1]
    how = {
        "handoff": "on",
        "listen": f"127.0.0.1:{port}",
        "grace_period": "8s",
        "app_stop": "3s",
        "propagation_max": "500ms",
        "propagation_min": "100ms",
        "reserve": "1s",
        "refuse_window": "500ms",
    }
    async with Beside(port) as sibling, pod(tmp_path, **how) as it:
        rows = [Endpoint(it.member.name, it.member.uid), Endpoint("web-2", "other", "127.0.0.2")]
        it.api.store.put(SLICES, endpoint_slice("web-abcde", rows, port=port))
        await it.looked()
        loop = asyncio.get_running_loop()
        began = loop.time()
        it.proxy.signal()
        answers = []
        # Its deadline is after four seconds.
        while loop.time() - began < 5.0:
            async with await Client.connect(("127.0.0.1", port)) as client:
                answers.append((await client.ask(get("/x"))).status)
            if len(answers) == 20:
                await it.application.close()
            await asyncio.sleep(0.02)
        assert set(answers) == {200}
        assert sibling.asked
        assert await it.proxy.exit_code() == 0
        report = await it.proxy.line("drain_report")
        assert report["propagation_ended"] == "max"
        assert loop.time() - began < 8.0
