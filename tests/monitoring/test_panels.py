"""Every panel and every variable has data over a day of recorded drains, in a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart.rendering import ROOT
from tests.monitoring.ends import ENDS
from tests.monitoring.prometheus import PROMTOOL, Prometheus, needs_prometheus, rules
from tests.monitoring.recorded import DAY_S, Day, laid_out, record, write
from tests.support.cluster.account import Account, server_tls
from tests.support.cluster.server import ApiServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_prometheus

DASHBOARD = json.loads((ROOT / "helm/drainproxy/dashboards/drainproxy.json").read_text())
TARGETS = [
    (f"{panel['title']}: {target['legendFormat']}", panel["type"], target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", [])
]
STEP_S = 120
FILLS = {"$__rate_interval": "240s", "$__range": f"{DAY_S:.0f}s", "$caller": ".*", "$cluster": ".*"} | {
    "$namespace": ".*",
    "$workload": ".*",
}
"""As Grafana fills them in over 24 hours, where scrapes are a minute apart."""

OF_NOBODY = {"$cluster": "south"}, {"$namespace": "nowhere"}, {"$workload": "nobody"}
NOT_BY = {
    "$cluster": (),
    "$namespace": ("ALB",),
    "$workload": ("ALB", "ingress-nginx", "Envoy Gateway and Contour", "Traefik", "HAProxy"),
}
"""Variable -> whose counts of callers it cannot choose among."""
WEBHOOK = ("Reviews by outcome", "Time to review", "Until its certificate expires", "Pods that ask for")


def filled(query: str, **other: str) -> str:
    """Fill the variables in."""
    for name, text in (FILLS | other).items():
        query = query.replace(name, text)
    assert "$" not in query, query
    return query


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Day, Path]:
    """A day in a Prometheus' directory, with what the chart's rules record of it."""
    directory = tmp_path_factory.mktemp("day")
    return asyncio.run(_made(directory)), directory


async def _made(directory: Path) -> Day:
    tls, authority = server_tls(directory / "api")
    async with ApiServer(tls=tls) as api:
        account = Account(api, directory / "account", authority=authority)
        # One of them hears of siblings, to hand requests on.
        hears = {"handoff": "on", "rbac": "slices", "kubeconfig": str(account.kubeconfig())}
        recordings = [await record(name, **(hears if name == "finished" else {})) for name in ENDS]
    day = laid_out(recordings, time.time() - 60)
    assert 0 < day.scraped < len(day.drains)
    (directory / "recorded.yaml").write_text(yaml.safe_dump(rules()))
    written = directory / "written"
    written.mkdir()
    async with Prometheus(written, {}, "", {"groups": []}) as prometheus:
        await write(day, prometheus.remote_write)
        # As blocks: of its log, whoever starts beside newer blocks reads what is newer still, and no more.
        (await prometheus.snapshot()).rename(directory / "data")
        child = await asyncio.create_subprocess_exec(
            *(PROMTOOL, "tsdb", "create-blocks-from", "rules"),
            *(f"--start={day.start:.0f}", f"--end={day.end:.0f}", "--eval-interval=2m"),
            *(f"--url={prometheus.url}", f"--output-dir={directory / 'data'}"),
            str(directory / "recorded.yaml"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said = (await child.communicate())[0].decode()
        assert child.returncode == 0, said
    return day


def finite(series: list[dict[str, Any]]) -> bool:
    """Tell whether there is a number in it."""
    points = [point for each in series for point in each.get("values", [each.get("value")])]
    return any(math.isfinite(float(value)) for _, value in points)


async def seen(prometheus: Prometheus, day: Day, kind: str, query: str) -> list[dict[str, Any]]:
    """Return what a panel of the last 24 hours gets."""
    if kind == "timeseries":
        return await prometheus.between(query, day.start, day.end, STEP_S)
    return await prometheus.at(query, day.end)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_panel_and_variable_has_data_over_24_hours(day):
    """And none of it is of a cluster, a namespace or a workload that was not chosen."""
    made, directory = day
    async with Prometheus(directory, {}, "", {"groups": []}) as prometheus:
        empty = [
            title
            for title, kind, query in TARGETS
            if not finite(await seen(prometheus, made, kind, filled(query)))
        ]
        assert empty == []
        for (nobody,) in (other.items() for other in OF_NOBODY):
            others = [
                title
                for title, kind, query in TARGETS
                if not title.endswith(NOT_BY[nobody[0]])
                and not (nobody[0] != "$cluster" and title.startswith(WEBHOOK))
                and await seen(prometheus, made, kind, filled(query, **dict([nobody])))
            ]
            assert others == [], nobody
        for variable in DASHBOARD["templating"]["list"]:
            if variable["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]).groups()
                assert await prometheus.values(label, filled(series), made.start, made.end), variable["name"]
        (rollouts,) = DASHBOARD["annotations"]["list"]
        assert await seen(prometheus, made, "timeseries", filled(rollouts["expr"]))
        await _numbers(prometheus, made)


async def _numbers(prometheus: Prometheus, day: Day) -> None:
    """The first row and the table say what the reports said, to the last request, scraped or pushed."""
    panels = {panel["title"]: panel for panel in DASHBOARD["panels"]}

    async def number(title: str) -> float:
        (series,) = await prometheus.at(filled(panels[title]["targets"][0]["expr"]), day.end)
        return float(series["value"][1])

    told = sum(tally["told_to_leave"] for drain in day.drains for tally in drain.report["tunnels"].values())
    assert await number("Pods that drained") == len(day.drains)
    assert await number("Lost") == day.ended("lost") > 0
    assert await number("Cut or timed out") == day.ended("cut") + day.ended("timed_out") > 0
    assert await number("Refused") == day.ended("refused") > 0
    assert await number("Told to leave") == told > 0
    for target in panels["The last drains"]["targets"]:
        rows = await prometheus.at(filled(target["expr"]), day.end)
        assert len(rows) == len(day.drains), target["legendFormat"]
        assert all({"cluster", "namespace", "workload", "pod"} <= row["metric"].keys() for row in rows)
        if target["legendFormat"] == "ended":
            assert all(day.start < float(row["value"][1]) / 1000 < day.end for row in rows)
        if target["legendFormat"] == "seconds":
            assert all(0 < float(row["value"][1]) < 60 for row in rows)
