"""A real Prometheus with the chart's rules, and an exporter that says what others in a cluster would."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

import pytest
import yaml
from aiohttp import web

from tests.chart.rendering import documents, one
from tests.support.client import Client

if TYPE_CHECKING:
    from pathlib import Path

INTERVAL_S = 1
PATIENCE_S = 110
"""For promtool, on a machine that others use too."""
PROMETHEUS = shutil.which("prometheus") or ""
PROMTOOL = shutil.which("promtool") or ""

needs_prometheus = pytest.mark.skipif(
    not (PROMETHEUS and PROMTOOL), reason="prometheus is not installed; apt-get install prometheus"
)


@functools.cache
def rules(**thresholds: float) -> dict[str, Any]:
    """The rule file that the operator makes of the chart's PrometheusRule."""
    return chosen(prometheusRule={"thresholds": thresholds})


def chosen(**monitoring: Any) -> dict[str, Any]:
    """The same, by any values below `monitoring`."""
    values = {**monitoring, "prometheusRule": {"enabled": True, **monitoring.get("prometheusRule", {})}}
    return one(documents({"monitoring": values}), "PrometheusRule")["spec"]


def alerts(file: dict[str, Any]) -> list[dict[str, Any]]:
    """The alerts among a file's rules."""
    return [each for group in file["groups"] for each in group["rules"] if "alert" in each]


def promtool(
    document: dict[str, Any],
    directory: Path,
    rule_file: dict[str, Any] | None = None,
    within_s: float = PATIENCE_S,
) -> str:
    """Run a test of rules, whose file is rules.yaml; return what promtool says of failures, or nothing."""
    (directory / "rules.yaml").write_text(yaml.safe_dump(rule_file or {}))
    (directory / "test.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        [PROMTOOL, "test", "rules", directory / "test.yaml"],
        check=False,
        capture_output=True,
        text=True,
        timeout=within_s,
    )
    said = done.stdout + done.stderr
    assert (done.returncode == 0) == ("FAILED" not in said), said
    return "" if done.returncode == 0 else said


class Queried:
    """A program that scrapes, and answers queries as Prometheus does. `async with it:` starts it."""

    def __init__(self, directory: Path, configuration: dict[str, Any]) -> None:
        self._config = directory / "scrapes.yaml"
        self._config.write_text(yaml.safe_dump(configuration))
        self._data = directory / "data"
        self._log = directory / "scrapes.log"
        self._port = 0

    def _command(self) -> list[str]:
        """Its command line, for `_port`."""
        raise NotImplementedError

    async def _answers(self) -> None:
        """Raise OSError or AssertionError until it does."""
        await self.now("1")

    async def __aenter__(self) -> Self:
        # It does not say which port it got for port 0: where another is faster, it is tried again.
        for _ in range(5):
            self._port = await free_port()
            with self._log.open("w") as log:
                self._child = await asyncio.create_subprocess_exec(
                    *self._command(), stdout=asyncio.subprocess.DEVNULL, stderr=log
                )
            async with asyncio.timeout(60):
                while self._child.returncode is None:
                    try:
                        await self._answers()
                    except (OSError, AssertionError):
                        await asyncio.sleep(0.1)
                    else:
                        return self
        raise AssertionError(self._log.read_text())

    async def __aexit__(self, *_: object) -> None:
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()

    async def _get(self, path: str, method: str = "GET") -> bytes:
        async with await Client.connect(("127.0.0.1", self._port)) as client:
            request = f"{method} {path} HTTP/1.1\r\nHost: prometheus\r\nConnection: close\r\n\r\n"
            answer = await client.ask(request.encode())
        assert answer.status == 200, answer.body
        return answer.body

    async def _api(self, path: str, **query: object) -> Any:
        return json.loads(await self._get(f"/api/v1/{path}?{urlencode(query)}"))["data"]

    async def now(self, query: str) -> list[dict[str, Any]]:
        """Return an instant query's series."""
        return (await self._api("query", query=query))["result"]

    async def until(self, query: str, within_s: float = 60) -> list[dict[str, Any]]:
        """Wait until a query has data."""
        async with asyncio.timeout(within_s):
            while not (found := await self.now(query)):
                await asyncio.sleep(0.2)
        return found


class Prometheus(Queried):
    """`async with Prometheus(directory, targets, exporter, rules) as it:`; `targets` is pod -> address.

    `exporter` is an address too, or empty. `labels`: more of a pod's, or others. It takes remote writes.
    """

    def __init__(
        self,
        directory: Path,
        targets: dict[str, str],
        exporter: str,
        rule_file: dict[str, Any],
        *,
        scrape_s: float = INTERVAL_S,
        labels: dict[str, dict[str, str]] | None = None,
    ) -> None:
        self.started = time.time()
        (directory / "rules.yaml").write_text(yaml.safe_dump(rule_file))
        usual = {"namespace": "shop", "workload": "till", "container": "drainproxy"}
        pods = [
            {"targets": [address], "labels": {"pod": pod, **usual, **(labels or {}).get(pod, {})}}
            for pod, address in targets.items()
        ]
        cluster = {"job_name": "cluster", "honor_labels": True, "static_configs": [{"targets": [exporter]}]}
        document = {
            "global": {"scrape_interval": f"{scrape_s}s", "evaluation_interval": f"{INTERVAL_S}s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {"job_name": "drainproxy", "static_configs": pods},
                *([cluster] if exporter else []),
            ],
        }
        super().__init__(directory, document)

    def _command(self) -> list[str]:
        return [
            PROMETHEUS,
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._data}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--web.enable-remote-write-receiver",
            "--web.enable-admin-api",
        ]

    async def _answers(self) -> None:
        await self._get("/-/ready")

    async def over_time(self, query: str) -> list[dict[str, Any]]:
        """Return a query's series since the beginning, as a panel draws it."""
        asked = {"query": query, "start": self.started, "end": time.time(), "step": INTERVAL_S}
        return (await self._api("query_range", **asked))["result"]

    async def between(self, query: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return a query's series, as a panel of that range draws it."""
        return (await self._api("query_range", query=query, start=start, end=end, step=step))["result"]

    async def at(self, query: str, when: float) -> list[dict[str, Any]]:
        """Return a query's series at a time."""
        return (await self._api("query", query=query, time=when))["result"]

    async def values(self, label: str, series: str, start: float, end: float) -> list[str]:
        """Return a label's values, as a variable lists them."""
        asked = {"match[]": series, "start": start, "end": end}
        return await self._api(f"label/{label}/values", **asked)

    async def snapshot(self) -> Path:
        """Return a directory with all that it holds as blocks, for another Prometheus."""
        made = json.loads(await self._get("/api/v1/admin/tsdb/snapshot", "POST"))["data"]["name"]
        return self._data / "snapshots" / made

    async def rules(self) -> dict[str, dict[str, Any]]:
        """Return every rule by its name, with health and state."""
        (group,) = (await self._api("rules"))["groups"]
        return {each["name"]: each for each in group["rules"]}

    @property
    def remote_write(self) -> str:
        """Where others write series to."""
        return f"{self.url}/api/v1/write"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._port}"


async def free_port() -> int:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


class Exporter:
    """What kube-state-metrics, ingress-nginx, Envoy, Istio and a CloudWatch exporter say, in their words."""

    def __init__(self) -> None:
        self._scrapes = 0
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, _request: web.BaseRequest) -> web.Response:
        self._scrapes += 1
        return web.Response(
            text="".join(f"{name} {value}\n" for name, value in others(self._scrapes).items())
        )


def others(scrapes: int) -> dict[str, float]:
    """What the rest of a cluster has counted after so many scrapes."""
    ours = 'namespace="shop",container="drainproxy"'
    return {
        'kube_pod_labels{namespace="shop",pod="bare",label_drainproxy_io_inject="true"}': 1,
        'kube_pod_labels{namespace="shop",pod="held",label_drainproxy_io_inject="true"}': 1,
        'kube_pod_init_container_info{namespace="shop",pod="held",container="drainproxy"}': 1,
        f'kube_pod_init_container_status_restarts_total{{{ours},pod="till-held"}}': scrapes // 5,
        f'kube_pod_container_status_restarts_total{{{ours},pod="till-plain"}}': 0,
        'nginx_ingress_controller_requests{exported_namespace="shop",status="502"}': scrapes,
        'envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",'
        'envoy_cluster_name="httproute/shop/till/rule/0"}': scrapes,
        'istio_requests_total{response_code="503",reporter="source",'
        'destination_workload="till",destination_workload_namespace="shop"}': scrapes,
        'response_total{direction="outbound",classification="failure",'
        'dst_deployment="till",dst_namespace="shop"}': scrapes,
        'traefik_service_requests_total{code="502",service="shop-till-80@kubernetes"}': scrapes,
        'haproxy_backend_http_responses_total{code="5xx",proxy="shop_till_80"}': scrapes,
        "aws_applicationelb_httpcode_elb_5_xx_count_sum": 2,
    }
