"""A real Prometheus watches pods end: every rule has data, and last counters outlive the pod."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest
import yaml

from tests.chart.rendering import ROOT
from tests.integration.application import Application
from tests.integration.scene import command, get, held
from tests.monitoring.prometheus import PROMTOOL, Exporter, Prometheus, alerts, needs_prometheus, rules
from tests.support.authority import Authority
from tests.support.client import Client
from tests.support.cluster.account import Account, server_tls
from tests.support.cluster.server import ApiServer
from tests.support.process import Proxy
from tests.support.upstream import Upstream, answering
from tests.support.wire import Ended

pytestmark = needs_prometheus

SHORT = {
    "grace_period": "11s",
    "app_stop": "2s",
    "reserve": "1s",
    "leave_spread": "1s",
    "propagation": "cluster",
    "propagation_min": "1s",
    "propagation_quiet": "1s",
    "propagation_max": "3s",
    "sparse_min": "2s",
    "settle": "100ms",
    "linger": "100ms",
    "final_scrape_wait": "10s",
}

SILENCED = "unless on (cluster, namespace, workload)"
"""How a rule begins to say that a lost request is told of once."""


async def check(tool_arguments: list[str]) -> str:
    """Run promtool; return what it said."""
    child = await asyncio.create_subprocess_exec(
        PROMTOOL, *tool_arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said = (await child.communicate())[0].decode()
    assert child.returncode == 0, said
    return said


async def test_promtool_takes_the_rules(tmp_path):
    """Syntax, templates and names."""
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules()))
    assert "SUCCESS" in await check(["check", "rules", "--lint=all", str(tmp_path / "rules.yaml")])


def test_every_alert_has_a_runbook():
    """Whoever is woken is told what to look at and what to change."""
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    assert [each["alert"] for each in alerts(rules())] == headings


def test_what_the_docs_call_recorded_is_recorded():
    """Whoever writes a rule of their own on it gets data."""
    recorded = {each["record"] for group in rules()["groups"] for each in group["rules"] if "record" in each}
    named = {
        name
        for page in (ROOT / "docs").glob("*.md")
        for name in re.findall(r"\bworkload:drainproxy_\w+:\w+", page.read_text())
    }
    assert named
    assert named <= recorded


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_every_rule_has_data(tmp_path):
    """A pod cut at its deadline, one drained by hand and asked again, one without application and rights."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue(days=5)
    tls, ca = server_tls(tmp_path / "api")
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(ApiServer(tls=tls))
        denied = Account(api, tmp_path / "account", authority=ca)
        silent = await stack.enter_async_context(Upstream())
        lively = await stack.enter_async_context(Upstream(answering()))
        brief = await stack.enter_async_context(Application(answering()))
        who = {"pod_name": "held", "pod_namespace": "shop", "kubeconfig": str(denied.kubeconfig())}
        held_pod = await stack.enter_async_context(
            Proxy(upstreams=[silent.address, lively.address], **who, **SHORT, handoff="on")
        )
        by_hand = await stack.enter_async_context(
            Proxy(upstreams=[lively.address], propagation="none", hold_while_down="1s")
        )
        sick = await stack.enter_async_context(
            Proxy(
                upstreams=[brief.address],
                **{**SHORT, "grace_period": "5s"},
                listen="https://127.0.0.1:0",
                tls_certificate=str(certificate),
                tls_key=str(key),
                breaker_cooldown="30s",
                connect_timeout="100ms",
            )
        )
        exporter = await stack.enter_async_context(Exporter())
        pods = {"held": held_pod, "by-hand": by_hand, "sick": sick}
        targets = {name: f"127.0.0.1:{pod.admin[1]}" for name, pod in pods.items()}
        file = rules(bypassConnections=-1, refused=-1, cappedDrains=0)
        prometheus = await stack.enter_async_context(Prometheus(tmp_path, targets, exporter, file))
        for pod in targets:
            await prometheus.until(f'drainproxy_phase{{pod="{pod}", phase="ready"}} == 1')
        await _end_by_hand(by_hand)
        await brief.stop_listening()
        await _ask_the_sick(sick, authority)
        await prometheus.until('drainproxy_upstream_up{pod="sick"} == 0')
        caller = asyncio.create_task(_keep_asking(held_pod))
        await held(held_pod, silent)
        await prometheus.until('drainproxy_requests_total{pod="held"} > 5')
        held_pod.signal()
        sick.signal()
        report = await held_pod.line("drain_report")
        assert await held_pod.exit_code(60) == 0
        caller.cancel()
        await _last_counters(prometheus, report)
        # A step of a range before now: what is asked below ends at such a step.
        await prometheus.until('ALERTS{alertname="DrainproxyRequestsLost"} offset 3s')
        await _everything(prometheus, file)


async def _keep_asking(proxy: Proxy) -> None:
    """A connection a request, at the second listener: the first one's application answers nothing."""
    with contextlib.suppress(OSError, AssertionError, EOFError):
        while True:
            async with await Client.connect(proxy.addresses[1]) as client:
                await client.ask(get("/"))
            await asyncio.sleep(0.1)


async def _end_by_hand(proxy: Proxy) -> None:
    """Drain it without SIGTERM, so that it stays, and ask it once more."""
    assert (await command(proxy, "drain"))[0] == 0
    await proxy.line("phase", phase="drained")
    async with await Client.connect(proxy.addresses[0]) as client:
        assert (await client.ask(get("/"))).status == 200


async def _ask_the_sick(proxy: Proxy, authority: Authority) -> None:
    """Nobody is served: who was in gets a reset or a 503, and others are refused as without a proxy."""
    trust, told = authority.trusted(), []
    for _ in range(20):
        with contextlib.suppress(OSError, Ended):
            async with await Client.connect(proxy.addresses[0], tls=trust) as client:
                told.append((await client.ask(get("/"))).status)
    assert told
    assert set(told) <= {0, 503}


async def _last_counters(prometheus: Prometheus, report: dict) -> None:
    """The report's numbers are in Prometheus, though nobody is there any more to be asked for them."""
    await prometheus.until('up{pod="held"} == 0')
    for outcome, count in report["requests"].items():
        if outcome == "late":
            query = 'last_over_time(drainproxy_late_requests_total{pod="held"}[10m])'
        else:
            query = f'last_over_time(drainproxy_drain_requests_total{{pod="held", outcome="{outcome}"}}[10m])'
        (series,) = await prometheus.now(query)
        # What came after the report, before the last scrape, is counted too.
        more = count if outcome in {"timed_out", "cut", "lost"} else float("inf")
        assert count <= float(series["value"][1]) <= more, outcome
    assert report["requests"]["late"] > 0
    assert report["requests"]["timed_out"] + report["requests"]["cut"] > 0
    (drained,) = await prometheus.now('last_over_time(drainproxy_phase{pod="held", phase="drained"}[10m])')
    assert drained["value"][1] == "1"


async def _everything(prometheus: Prometheus, file: dict) -> None:
    """No rule is silent, and none is broken."""
    # What a lost request silences has to have data without it.
    own = {rule["alert"]: rule["expr"].split(SILENCED)[0] for rule in alerts(file)}
    silent = [alert for alert, expression in own.items() if not await prometheus.over_time(expression)]
    assert silent == []
    recorded = [rule["record"] for group in file["groups"] for rule in group["rules"] if "record" in rule]
    assert [name for name in recorded if not await prometheus.over_time(name)] == []
    known = await prometheus.rules()
    assert {name: each["lastError"] for name, each in known.items() if each["health"] != "ok"} == {}
    firing = {name for name, each in known.items() if each.get("state") == "firing"}
    assert "DrainproxyRequestsLost" in firing
    assert not firing & {"DrainproxyLeftTooEarly", "DrainproxyLateRequests", "DrainproxyDrainEndedByDeadline"}
