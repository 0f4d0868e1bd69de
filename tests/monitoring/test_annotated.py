"""A real scraper finds a pod by the annotations that the injector gives it, and asks it to its end.

VictoriaMetrics, since Debian builds Prometheus without Kubernetes' discovery; both read one configuration.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

import pytest

from drainproxy.injector.patch import InjectorDefaults
from tests.injector.pods import Row, pod
from tests.injector.ways import by_webhook
from tests.integration.scene import held
from tests.monitoring.prometheus import Queried
from tests.monitoring.test_prometheus import SHORT
from tests.support.cluster.access import Rule
from tests.support.cluster.account import Account
from tests.support.cluster.resources import PODS
from tests.support.cluster.server import ApiServer
from tests.support.cluster.store import timestamp
from tests.support.process import Proxy
from tests.support.upstream import Upstream

if TYPE_CHECKING:
    from pathlib import Path

SCRAPER = shutil.which("victoria-metrics") or ""
pytestmark = pytest.mark.skipif(
    not SCRAPER, reason="victoria-metrics is not installed; apt-get install victoria-metrics"
)
ANNOTATION = "__meta_kubernetes_pod_annotation_prometheus_io_"


def job(api: ApiServer, account: Account) -> dict:
    """Return a job that goes by annotations, in the manner of the community's chart."""
    place = {"source_labels": [f"{ANNOTATION}port", "__meta_kubernetes_pod_ip"], "regex": "(.+);(.+)"}
    return {
        "job_name": "annotated",
        "kubernetes_sd_configs": [
            {
                "role": "pod",
                "api_server": api.url,
                "authorization": {"credentials_file": str(account.directory / "token")},
            }
        ],
        "relabel_configs": [
            {"source_labels": [f"{ANNOTATION}scrape"], "regex": "true", "action": "keep"},
            {"source_labels": [f"{ANNOTATION}path"], "regex": "(.+)", "target_label": "__metrics_path__"},
            {**place, "replacement": "$2:$1", "target_label": "__address__"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
            {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Succeeded|Failed", "action": "drop"},
        ],
    }


def running(name: str, port: int, defaults: InjectorDefaults) -> dict:
    """Return an injected pod as the API shows it, whose sidecar listens at this port of loopback."""
    asked = pod(annotations={"drainproxy.io/admin-port": str(port)})
    made, _ = by_webhook(Row(id=name, pod=asked), defaults)
    made["metadata"] |= {"name": name, "uid": f"uid-{name}"}
    ready = {"type": "Ready", "status": "True"}
    return {**made, "status": {"phase": "Running", "podIP": "127.0.0.1", "conditions": [ready]}}


class Scraper(Queried):
    """Asks once a second. `jobs`: of its configuration."""

    def __init__(self, directory: Path, jobs: list[dict]) -> None:
        super().__init__(directory, {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs})

    def _command(self) -> list[str]:
        return [
            SCRAPER,
            f"-promscrape.config={self._config}",
            "-promscrape.config.strictParse",
            # How often it looks for what discovery has told it.
            "-promscrape.kubernetesSDCheckInterval=200ms",
            f"-storageDataPath={self._data}",
            f"-httpListenAddr=127.0.0.1:{self._port}",
            "-search.latencyOffset=0s",
            "-search.disableCache",
        ]


@pytest.mark.timeout(180)
async def test_a_pod_that_terminates_is_scraped_until_it_is_over(tmp_path):
    """One target, whatever its ports, which tells what was lost after its deletion; others are none."""
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(ApiServer())
        account = Account(api, tmp_path / "account", [Rule("", "pods", ("list", "watch"))])
        application = await stack.enter_async_context(Upstream())
        proxy = await stack.enter_async_context(Proxy(upstreams=[application.address], **SHORT))
        told = InjectorDefaults(annotations={"scrape-annotations": "true"})
        web = running("web", proxy.admin[1], told)
        api.store.put(PODS, running("unasked", proxy.admin[1], InjectorDefaults()))
        api.store.put(PODS, web)
        scraper = await stack.enter_async_context(Scraper(tmp_path, [job(api, account)]))
        await scraper.until('drainproxy_phase{phase="ready"} == 1')
        (up,) = await scraper.now('up{job="annotated"}')
        assert (up["metric"]["pod"], up["metric"]["namespace"]) == ("web", "shop")
        _, connection = await held(proxy, application)
        api.store.put(PODS, {**web, "metadata": {**web["metadata"], "deletionTimestamp": timestamp()}})
        proxy.signal()
        await proxy.line("phase", phase="propagating")
        connection.close()
        report = await proxy.line("drain_report")
        assert report["requests"]["lost"] == 1
        assert await proxy.exit_code(60) == 0
        lost = 'drainproxy_drain_requests_total{pod="web", outcome="lost"}'
        await scraper.until(f"max_over_time({lost}[10m]) == 1")
