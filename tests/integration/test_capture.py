"""Through every door a caller from outside reaches the application by way of the sidecar, and not without."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from tests.integration.captured import ALLOWED, answered, application, captured, led, proxy
from tests.support.command import drainproxy
from tests.support.network import ADMIN, POD, POD_6, Namespace
from tests.support.wire import PATIENCE_S

UNNAMED = {"containerPort": 8080}
HTTP = {"name": "http", **UNNAMED}
THROUGH = "from 127.0.0.6 at"
"""What the application sees of a request that came through the sidecar."""
REFUSED = "ConnectionRefusedError"
DOORS = {
    "name": ((HTTP,), {}, 28080),
    "env": ((HTTP,), {"app_port_env": "PORT"}, 8080),
    "address": ((UNNAMED,), {"app_host_env": "HOST", "ports": "8080"}, 8080),
    "redirect": ((UNNAMED,), {"ports": "8080", "capture": "redirect"}, 8080),
}
"""Ports, annotations, and the number that callers use."""

TWICE = r"""
import socket, sys
wire = socket.create_connection((sys.argv[1], 8080), 20)
for _ in range(2):
    wire.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    print(wire.recv(65536), flush=True)
    sys.stdin.readline()
"""
"""Two requests on one connection, the second when it is told to."""

Neighbours = tuple[Namespace, Namespace]
"""The pod's, and a caller's."""


@pytest.mark.parametrize("door", DOORS)
async def test_a_caller_from_outside(neighbours: Neighbours, loop_kind: str, door: str) -> None:
    """Over IPv4 and IPv6, at the number of old where the door keeps it; the admin port is not led away."""
    pod, neighbour = neighbours
    ports, options, number = DOORS[door]
    made = captured(*ports, **options)
    assert (made.capture.door, [each.callers for each in made.taken]) == (door, [number])
    await led(made, pod)
    async with application(made, pod), proxy(made, pod, loop_kind) as sidecar:
        await sidecar.ready()
        for to in (POD, POD_6):
            assert (await answered(neighbour, number, to)).startswith(THROUGH)
            assert (await neighbour.ask("GET /readyz", to=to, port=ADMIN)).startswith("HTTP/1.1 200 ")
        sidecar.signal()
        assert await sidecar.exit_code() == 0


@pytest.mark.parametrize("door", ["address", "redirect"])
async def test_nobody_gets_around(neighbours: Neighbours, loop_kind: str, door: str) -> None:
    """While the sidecar is not there, the application is reached from inside the pod alone."""
    pod, neighbour = neighbours
    ports, options, number = DOORS[door]
    made = captured(*ports, **options)
    await led(made, pod)
    async with application(made, pod):
        for to in (POD, POD_6):
            assert await answered(neighbour, number, to) == REFUSED
        assert await answered(pod, number, "127.0.0.1") == "from 127.0.0.1 at 8080"
        async with proxy(made, pod, loop_kind) as sidecar:
            await sidecar.ready()
            assert (await answered(neighbour, number)).startswith(THROUGH)
            sidecar.signal(signal.SIGKILL)
            await sidecar.exit_code()
        for to in (POD, POD_6):
            assert await answered(neighbour, number, to) == REFUSED


async def test_what_the_kernel_does_not_track_is_not_let_in(neighbours: Neighbours, loop_kind: str) -> None:
    """No rule leads away what was exempted from tracking; it meets the second one."""
    pod, neighbour = neighbours
    made = captured(UNNAMED, ports="8080", capture="redirect")
    await led(made, pod)
    for family in ("ip", "ip6"):
        chain = "chain early { type filter hook prerouting priority raw; tcp dport 8080 notrack; }"
        await pod.run("nft", f"table {family} other {{ {chain}; }}")
    async with application(made, pod), proxy(made, pod, loop_kind) as sidecar:
        await sidecar.ready()
        for to in (POD, POD_6):
            assert await answered(neighbour, 8080, to) == REFUSED


async def test_other_containers_of_the_pod(neighbours: Neighbours, loop_kind: str) -> None:
    """They reach the application as before, over loopback and at the pod's address."""
    pod, neighbour = neighbours
    made = captured(UNNAMED, {"containerPort": 9000}, ports="8080", capture="redirect")
    await led(made, pod)
    async with application(made, pod), proxy(made, pod, loop_kind) as sidecar:
        await sidecar.ready()
        for to in ("127.0.0.1", "::1", POD, POD_6):
            assert (await answered(pod, 8080, to)).startswith(f"from {to} at")
        assert "from" in await answered(neighbour, 9000), "what is not captured is left alone"
        assert THROUGH not in await answered(neighbour, 9000)


async def test_several_ports(neighbours: Neighbours, loop_kind: str) -> None:
    """Each leads to a listener of its own."""
    pod, neighbour = neighbours
    made = captured(UNNAMED, {"containerPort": 8081}, ports="8080,8081", capture="redirect")
    said = await led(made, pod)
    assert "TCP port 8080 leads to 28080 (ip and ip6)" in said
    assert "TCP port 8081 leads to 28081 (ip and ip6)" in said
    async with application(made, pod), proxy(made, pod, loop_kind) as sidecar:
        await sidecar.ready()
        for number in (8080, 8081):
            assert (await answered(neighbour, number)).startswith(THROUGH)
            assert (await answered(neighbour, number, POD_6)).startswith(THROUGH)
        scraped = (await pod.ask("GET /metrics", to="127.0.0.1")).splitlines()
        for listener in (28080, 28081):
            mine = [line for line in scraped if line.startswith("drainproxy_requests_total{")]
            counts = [float(line.split()[1]) for line in mine if f'listener="{listener}"' in line]
            assert sum(counts) == 2


async def test_the_init_container_runs_again(neighbours: Neighbours, loop_kind: str) -> None:
    """Nothing is written twice, half a table of before becomes a whole one, and open connections stay."""
    pod, neighbour = neighbours
    made = captured(UNNAMED, ports="8080", capture="redirect")
    await pod.run("nft", "table ip drainproxy { chain prerouting { tcp dport 8080 drop; }; chain old { }; }")
    await led(made, pod)
    rules = await pod.run("nft", "list", "ruleset")
    assert rules.count(b"redirect to :28080") == 2
    assert b"drop" not in rules
    assert b"old" not in rules
    async with application(made, pod), proxy(made, pod, loop_kind) as sidecar:
        await sidecar.ready()
        child = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net=/proc/{neighbour.pid}/ns/net", sys.executable, "-c", TWICE, POD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdin is not None
        async with asyncio.timeout(PATIENCE_S):
            assert b"HTTP/1.1" in await child.stdout.readline()
            await led(made, pod)
            child.stdin.write(b"\n")
            assert b"HTTP/1.1" in await child.stdout.readline()
            await child.communicate(b"\n")
        assert await pod.run("nft", "list", "ruleset") == rules
        assert (await answered(neighbour, 8080)).startswith(THROUGH)


async def test_rules_come_whole_or_not_at_all(neighbours: Neighbours) -> None:
    """Without the right nothing is written, and it is said what it needs; the pod does not start bare."""
    pod, _ = neighbours
    made = captured(UNNAMED, ports="8080", capture="redirect")
    with pytest.raises(AssertionError, match=r"no packet is led anywhere: nft: .* it needs root, NET_ADMIN"):
        await led(made, pod, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert await pod.run("nft", "list", "ruleset") == b""
    await led(made, pod)
    before = await pod.run("nft", "list", "ruleset")
    broken = b"delete table ip drainproxy\ntable ip drainproxy { }\ndelete table ip nowhere\n"
    with pytest.raises(AssertionError):
        await pod.run("nft", "-f", "-", said=broken)
    assert await pod.run("nft", "list", "ruleset") == before


@pytest.mark.parametrize("door", ["address", "redirect"])
async def test_probes_of_the_kubelet(neighbours: Neighbours, loop_kind: str, door: str) -> None:
    """They come from the node: one that only connects is not told of an application that is not there yet."""
    pod, node = neighbours
    ports, options, number = DOORS[door]
    made = captured(*ports, **options)
    await led(made, pod)
    async with proxy(made, pod, loop_kind) as sidecar:
        # It holds back no container, and no caller comes.
        assert (await node.ask("GET /startupz", port=ADMIN)).startswith("HTTP/1.1 200 ")
        assert (await node.ask("GET /readyz", port=ADMIN)).startswith("HTTP/1.1 503 ")
        assert await answered(node, number) == REFUSED
        async with application(made, pod):
            await sidecar.ready()
            assert (await node.ask("GET /readyz", port=ADMIN)).startswith("HTTP/1.1 200 ")
            assert (await answered(node, number)).startswith(THROUGH)


async def test_an_application_that_does_not_read_its_address(neighbours: Neighbours, loop_kind: str) -> None:
    """It runs as it would without us, the pod is not ready, and one line says why; no sooner is it read
    than all is well."""
    pod, neighbour = neighbours
    made = captured(UNNAMED, ports="8080", app_host_env="HOST")
    async with proxy(made, pod, loop_kind) as sidecar:
        async with application(made, pod, "--deaf"):
            line = await sidecar.line("cannot_listen")
            assert f"cannot listen on {POD}:8080: Address already in use" in line["why"]
            assert "drainproxy.io/app-host-env" in line["why"]
            ready = await neighbour.ask("GET /readyz", port=ADMIN)
            assert ready.startswith("HTTP/1.1 503 ")
            assert "not ready: cannot listen on" in ready
            assert (await answered(neighbour, 8080)).startswith("from "), "it is as if we were not there"
            assert not sidecar.ended
        async with application(made, pod):
            await sidecar.ready()
            for to in (POD, POD_6):
                assert (await answered(neighbour, 8080, to)).startswith(THROUGH)
        blocked = [line for line in sidecar.lines if line["event"] == "cannot_listen"]
        assert len(blocked) == 2, "one for each of the pod's addresses"
        sidecar.signal()
        assert await sidecar.exit_code() == 0


async def test_an_end_before_the_application_has_come(neighbours: Neighbours, loop_kind: str) -> None:
    """A pod that is deleted while it starts ends, whatever its sidecar waits for."""
    pod, _ = neighbours
    made = captured(UNNAMED, ports="8080", app_host_env="HOST")
    async with proxy(made, pod, loop_kind) as sidecar, application(made, pod, "--deaf"):
        await sidecar.line("cannot_listen")
        sidecar.signal()
        assert await sidecar.exit_code() == 0


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (("8080",), 'redirect: "8080" is not PORT:PORT'),
        (("8080:28080", "8080:28081"), 'redirect: "8080:28081" names a port a second time'),
        (("8080:28080", "28080:28081"), "redirect: port 28080 is captured and the sidecar's, too"),
        (("8080:70000",), 'redirect: "8080:70000" is not PORT:PORT'),
    ],
)
def test_words_that_make_no_rules(pairs, says):
    """A mistake writes nothing."""
    done = drainproxy("redirect", *pairs)
    assert (done.returncode, done.stdout) == (64, "")
    assert says in done.stderr


def test_an_image_without_the_tool():
    """The sidecar's own image has it not, and says so."""
    done = drainproxy("redirect", "8080:28080", env={"PATH": "/nowhere"})
    assert done.returncode == 1
    assert "nft is not here" in done.stderr
    assert ALLOWED.redirect_image
