"""The image in a real container, as a kubelet starts it: limits, networks, signals, hooks and what it leaves.

`make image-test` runs it, after `make image`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from pathlib import Path

import pytest

from tests.image.containers import answers, container
from tests.image.engine import engine, podman
from tests.image.figures import MEASURED, measure
from tests.support.network import POD_6, TRAFFIC, Namespace, joined

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HERE = Path(__file__).parent
ALONE = {"propagation": "none", "rbac": "none"}
"""No cluster: a drain is over once its work is done."""


@contextlib.asynccontextmanager
async def namespace(*commands: str):
    """A network namespace with loopback alone: no default route, and nobody to ask a name."""
    engine("podman")
    made = Namespace()
    try:
        await made.entered()
        for each in ("ip link set lo up", *commands):
            await made.run("sh", "-ec", each)
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("memory", ["64m", "128m"])
@pytest.mark.parametrize("cpus", ["0.1", "0.5"])
async def test_it_lives_within_small_limits(memory, cpus):
    """It starts, is drained by its hook and ends, under each limit, and half of the memory is left."""
    async with namespace() as network:
        seen = await measure(network, memory=memory, cpus=cpus)
    print({name: round(value, 3) for name, value in seen.items()})
    assert set(seen) == set(MEASURED)
    assert seen["connections"] == {"64m": 1638, "128m": 8192}[memory]
    assert seen["uss"] < 48 * 2**20
    assert seen["hook_bytes"] < 16 * 2**20


async def test_it_is_process_1_and_takes_signals():
    """The kernel ignores what process 1 has no handler for: SIGTERM drains, SIGKILL from inside is lost."""
    async with namespace() as network:
        with container(network=network, **ALONE) as drainproxy:
            await answers(network)
            status = Path(f"/proc/{drainproxy.pid}/status").read_text()
            assert re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE)
            assert re.search(r"^Uid:\s+65532\s+65532", status, re.MULTILINE)
            assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
            assert re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
            for number in ("HUP", "QUIT", "USR1", "WINCH"):
                podman("kill", "--signal", number, drainproxy.name)
            inside = "import os; os.kill(1, 9)"
            podman("exec", drainproxy.name, "python3", "-c", inside)
            await answers(network)
            drainproxy.stop()
            assert drainproxy.event("drain_report")["cause"]
            assert drainproxy.events()[-1]["event"] == "exit"


async def test_nothing_can_be_written_and_nothing_needs_to_be():
    """Not below the root, not in /tmp, not where the program lies."""
    script = (
        "import sys\n"
        "for place in ('/', '/tmp', '/opt/drainproxy', '/var/tmp', '/run'):\n"
        "    try: open(f'{place}/proof', 'w')\n"
        "    except OSError: continue\n"
        "    sys.exit(f'{place} can be written')\n"
    )
    async with namespace() as network:
        with container(network=network, **ALONE) as drainproxy:
            await answers(network)
            podman("exec", drainproxy.name, "python3", "-c", script)
            drainproxy.stop()


async def test_what_is_left_out_is_missed_by_nobody():
    """Verbs for people, HTTP/2's tables, tracing and a kubeconfig run without what the image leaves out."""
    traced = {"trace_endpoint": "http://127.0.0.1:1/v1/traces", "trace_ratio": "1"}
    verbs = (["version"], ["config"], ["status"], ["inject", "--help"], ["webhook", "--help"])
    async with namespace() as network:
        mount = ("--volume", f"{HERE}:/app:ro")
        with container(network=network, options=mount, h2_inspect="true", **traced, **ALONE) as drainproxy:
            await answers(network)
            for words in verbs:
                assert podman("exec", drainproxy.name, "drainproxy", *words), words
            probe = ("probe", "--json", "--duration", "1s", "http://127.0.0.1:1/")
            said = podman("exec", drainproxy.name, "drainproxy", *probe, check=False)
            assert json.loads(said)["lost_by_kind"]["refused"] > 0
            said = podman("exec", drainproxy.name, "python3", "/app/inside.py")
            assert "Traceback" not in said
            assert "refused" in said
            drainproxy.stop()
            assert not [each for each in drainproxy.events() if each.get("level") == "error"]


async def test_the_termination_message_is_left_where_the_kubelet_reads_it(tmp_path):
    """The file is the kubelet's, mounted on its own; the last line of the pod is the report."""
    message = tmp_path / "message"
    message.touch()
    message.chmod(0o666)
    async with namespace() as network:
        mount = ("--volume", f"{message}:/dev/termination-log")
        with container(network=network, options=mount, **ALONE) as drainproxy:
            await answers(network)
            drainproxy.stop()
            report = drainproxy.event("drain_report")
    assert json.loads(message.read_text())["ended_by"] == report["ended_by"]


async def test_limits_of_both_versions_of_cgroups(tmp_path):
    """The machine's own is read, and version 2 where the container is shown its files."""
    shown = tmp_path / "cgroup"
    shown.mkdir()
    (shown / "cgroup.controllers").write_text("cpu memory pids\n")
    (shown / "memory.max").write_text(f"{128 * 2**20}\n")
    tmp_path.chmod(0o755)
    async with namespace() as network:
        for options in (("--memory", "64m"), ("--volume", f"{shown}:/sys/fs/cgroup:ro")):
            with container(network=network, options=options, **ALONE) as drainproxy:
                await answers(network)
                drainproxy.stop()
                expected = 1638 if options[0] == "--memory" else 8192
                assert drainproxy.event("limits")["max_connections"] == expected, options


async def test_a_network_of_ipv6_alone():
    """Neither an address nor a loopback of IPv4: callers come over IPv6, and so does the application."""
    engine("podman")
    async with joined() as (pod, neighbour):
        for each in ("ip -4 address flush dev lo", "ip -4 address flush dev pod"):
            await pod.run("sh", "-ec", each)
        script = ("--volume", f"{HERE}:/app:ro", "--entrypoint", "python3")
        with (
            container("/app/application.py", "shop", "::1", network=pod, options=script),
            container(network=pod, upstream="http://[::1]:8080", **ALONE) as drainproxy,
        ):
            await answers(neighbour, "/", host=POD_6, port=TRAFFIC)
            drainproxy.stop()
            assert drainproxy.event("drain_report")["requests"]["lost"] == 0


async def test_a_network_without_ipv6():
    """The kernel has none of it in this namespace, as on many nodes."""
    async with namespace("sysctl -qw net.ipv6.conf.all.disable_ipv6=1") as network:
        with container(network=network, **ALONE) as drainproxy:
            await answers(network)
            drainproxy.stop()


async def test_the_hook_says_what_is_wrong_without_a_proxy():
    """The hook's command in a container where no proxy runs fails with its own exit code."""
    async with namespace() as network:
        began = time.monotonic()
        with container("drain", "--prestop", network=network) as hook:
            code = await asyncio.to_thread(podman, "wait", hook.name)
            said = podman("logs", hook.name)
        assert (code, time.monotonic() - began < 60) == ("69", True)
    assert "Traceback" not in said
