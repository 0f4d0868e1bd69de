"""Canary analysis: the queries of manifests/ in a real Prometheus, over canaries that are good and bad."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from aiohttp import web

from tests.chart.rendering import ROOT, one
from tests.chart.test_manifests import KUBECTL, build
from tests.integration.scene import command, get
from tests.monitoring import canary, resources
from tests.monitoring.prometheus import Prometheus, needs_prometheus, promtool
from tests.support.client import Client
from tests.support.process import Proxy
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

if KUBECTL is None:
    pytest.skip("kubectl is not installed; make .venv/group-deploy", allow_module_level=True)

PAGE = (ROOT / "docs" / "canary.md").read_text()
ANALYSIS = one(build(ROOT / "manifests" / "argo-rollouts"), "AnalysisTemplate")
FLAGGER = {each["metadata"]["name"]: each for each in build(ROOT / "manifests" / "flagger")}

WINDOW = "10m"
NEW, OLD = "6d4f7c9b8", "5c8bd9f4d"
ARGO = {"workload": "shop", "canary-hash": NEW, "stable-hash": OLD, "window": WINDOW}
MANY = 120
"""Requests: more than the hundred below which a share says nothing."""

SHORT = {
    "propagation": "none",
    "grace_period": "6s",
    "app_stop": "3s",
    "reserve": "1s",
    "settle": "50ms",
    "linger": "50ms",
}


def shown(name: str) -> dict[str, Any]:
    """Return the YAML below a mark of the page."""
    (text,) = re.findall(rf"<!-- yaml: {name} -->\n\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    return yaml.safe_load(text)


@pytest.mark.parametrize(
    "thing",
    [
        ANALYSIS,
        one(build(ROOT / "manifests" / "argo-rollouts-cluster"), "ClusterAnalysisTemplate"),
        *FLAGGER.values(),
        shown("rollout"),
        shown("canary"),
    ],
    ids=lambda thing: f"{thing['kind']}/{thing['metadata']['name']}",
)
def test_it_has_the_fields_that_its_definition_has(thing):
    """And no others: the API server drops what a definition does not know, without a word."""
    jsonschema.validate(thing, resources.SCHEMAS[thing["apiVersion"], thing["kind"]])


def test_a_misspelt_field_is_found():
    """A schema that takes everything proves nothing."""
    metrics = [{**each, "failurelimit": 1} for each in ANALYSIS["spec"]["metrics"]]
    wrong = {**ANALYSIS, "spec": {**ANALYSIS["spec"], "metrics": metrics}}
    with pytest.raises(jsonschema.ValidationError, match="failurelimit"):
        jsonschema.validate(wrong, resources.SCHEMAS[ANALYSIS["apiVersion"], "AnalysisTemplate"])


def test_the_rollout_gives_the_arguments_that_the_template_wants():
    """Each one that has no value of its own, and none that is unknown."""
    wanted = {each["name"]: "value" in each for each in ANALYSIS["spec"]["args"]}
    steps = [
        each["analysis"]
        for each in shown("rollout")["spec"]["strategy"]["canary"]["steps"]
        if "analysis" in each
    ]
    assert steps
    for step in steps:
        assert step["templates"] == [{"templateName": ANALYSIS["metadata"]["name"]}]
        given = {each["name"] for each in step["args"]}
        assert {name for name, own in wanted.items() if not own} <= given <= wanted.keys()
    text = yaml.safe_dump(ANALYSIS["spec"]["metrics"])
    assert set(canary.ARGUMENT.findall(text)) == wanted.keys(), "each argument is used"


def test_the_canary_names_the_templates_with_thresholds():
    """All three; each says what is too much."""
    metrics = shown("canary")["spec"]["analysis"]["metrics"]
    assert {each["templateRef"]["name"] for each in metrics} == FLAGGER.keys()
    assert all("max" in each["thresholdRange"] for each in metrics)


def test_flaggers_queries_have_no_comment():
    """It makes one line of them: whatever stands behind a # would be gone."""
    assert not any("#" in each["spec"]["query"] for each in FLAGGER.values())
    assert all(
        set(canary.MODEL.findall(each["spec"]["query"])) == {"namespace", "target", "interval"}
        for each in FLAGGER.values()
    )


@pytest.mark.parametrize(
    ("phases", "result"),
    [
        (["Successful"] * 5, "Successful"),
        (["Failed"] * 2, "Failed"),
        (["Inconclusive"] * 3 + ["Successful"] * 2, "Successful"),
        (["Inconclusive"] * 4, "Inconclusive"),
    ],
    ids=str,
)
def test_silence_pauses_and_errors_abort(phases, result):
    """A Rollout goes on by itself only after five measurements, most of which have seen something."""
    for metric in ANALYSIS["spec"]["metrics"]:
        assert canary.assessed(phases, metric) == result


# Counters by ten seconds, in promtool.

POD = f'namespace="shop", pod="shop-{NEW}-x2x9k"'
CODE = f'drainproxy_requests_total{{{POD}, code="%s"}}'
STREAMS = f'drainproxy_h2_streams_total{{{POD}, outcome="%s"}}'
COUNTERS = {
    "an old canary, steady": ({CODE % 200: "0+10x60", CODE % 500: "0+1x60"}, 12 / 132),
    "errors before the first scrape": ({CODE % 200: "_x54 20+10x6", CODE % 500: "_x54 20x6"}, 20 / 100),
    "a container that restarted": ({CODE % 200: "0+10x54 0+10x6", CODE % 500: "0+1x54 0+1x6"}, 11 / 121),
    "errors of long ago": ({CODE % 200: "0+10x60", CODE % 500: "0+5x20 100x40"}, 0),
    "callers of long ago": ({CODE % 200: "500x60", CODE % 500: "400x60"}, None),
    "too few": ({CODE % 200: "0x48 99x12", CODE % 500: "0x60"}, None),
    "just enough": ({CODE % 200: "0x48 99x12", CODE % 500: "0x48 1x12"}, 1 / 100),
    "not found is no error": ({CODE % 200: "0+10x60", CODE % 404: "0+10x60"}, 0),
    "HTTP/2": (
        {STREAMS % "finished": "0+10x60", STREAMS % "lost": "0+1x60", STREAMS % "reset": "0+1x60"},
        12 / 144,
    ),
    "both protocols": (
        {CODE % 200: "0+5x60", STREAMS % "finished": "0+5x60", STREAMS % "cut": "0+1x60"},
        12 / 132,
    ),
}


@needs_prometheus
@pytest.mark.parametrize(("series", "share"), COUNTERS.values(), ids=COUNTERS)
def test_a_share_is_of_what_was_counted_in_the_window(series, share, tmp_path):
    """Resets, series that are younger than the window, counters that stand still; of both controllers."""
    (argos,) = (each for each in ANALYSIS["spec"]["metrics"] if each["name"] == "caller-errors")
    given = {**ARGO, "namespace": "shop", "window": "2m"}
    query = canary.with_arguments(argos["provider"]["prometheus"]["query"], ANALYSIS, given)
    flaggers = FLAGGER["drainproxy-caller-errors"]["spec"]["query"]
    queries = [
        # NaN is what nothing equals, itself included.
        f"({query}) >= 0",
        canary.rendered(flaggers, namespace="shop", target="shop", interval="2m"),
    ]
    samples = [] if share is None else [{"labels": "{}", "value": share}]
    test = {
        "interval": "10s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expr, "eval_time": "10m", "exp_samples": samples} for expr in queries],
    }
    said = promtool({"rule_files": [], "tests": [test]}, tmp_path, within_s=60)
    assert not said, said


# Against a real Prometheus.


@contextlib.asynccontextmanager
async def application() -> AsyncIterator[tuple[str, asyncio.Semaphore]]:
    """An application: 200, 500 at /fail, and no answer at /hold, which it tells the test of."""
    held = asyncio.Semaphore(0)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/hold":
            held.release()
            await asyncio.Event().wait()
        return web.Response(status=500 if request.path == "/fail" else 200, text="ok")

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}", held
    finally:
        await runner.cleanup()


class Town:
    """Pods by namespace and name, under a Prometheus that scrapes them every second."""

    def __init__(self, stack: contextlib.AsyncExitStack, upstream: str) -> None:
        self.pods: dict[str, Proxy] = {}
        self._stack, self._upstream = stack, upstream

    async def pod(self, name: str) -> Proxy:
        """Start one."""
        self.pods[name] = await self._stack.enter_async_context(Proxy(upstreams=[self._upstream], **SHORT))
        return self.pods[name]


async def ask(proxy: Proxy, good: int, bad: int = 0) -> None:
    """Send requests of both kinds, on one connection."""
    async with await Client.connect(proxy.addresses[0]) as client:
        for path in ["/"] * good + ["/fail"] * bad:
            await client.ask(get(path))


async def seen(prometheus: Prometheus, series: str, name: str, count: int) -> None:
    """Wait until a counter of a pod, which may be gone, has been scraped with so much."""
    namespace, _, pod = name.partition("/")
    whose = f'namespace="{namespace}", pod="{pod}"'
    found = series.replace("{", "{" + whose + ", ")
    await prometheus.until(f"sum(last_over_time({found}[{WINDOW}])) >= {count}")


async def argo(prometheus: Prometheus, namespace: str) -> dict[str, str]:
    """Measure each metric once as Argo Rollouts does."""
    phases = {}
    for metric in ANALYSIS["spec"]["metrics"]:
        filled = yaml.safe_load(
            canary.with_arguments(
                yaml.safe_dump(metric, width=10**6), ANALYSIS, {**ARGO, "namespace": namespace}
            )
        )
        series = await prometheus.now(filled["provider"]["prometheus"]["query"])
        assert len(series) == 1, "an empty result is an error to newer controllers"
        phases[filled["name"]] = canary.measured(
            series, filled["successCondition"], filled["failureCondition"]
        )
    return phases


async def flagger(prometheus: Prometheus, namespace: str) -> dict[str, bool]:
    """Check each metric once as Flagger does: whether the canary may go on."""
    checks = {}
    for metric in shown("canary")["spec"]["analysis"]["metrics"]:
        name = metric["templateRef"]["name"]
        query = canary.rendered(
            FLAGGER[name]["spec"]["query"], namespace=namespace, target="shop", interval=WINDOW
        )
        checks[name] = canary.advances(await prometheus.now(query), metric["thresholdRange"])
    return checks


CANARY, STABLE, PRIMARY = f"shop-{NEW}-x2x9k", f"shop-{OLD}-bb7zd", f"shop-primary-{OLD}-bb7zd"
FLAGGERS = "flagger-"
"""Before the names of namespaces that are in both controllers' words."""
WITH_STABLE = ("good", "bad", "both", "silent")
NEIGHBOUR = f"neighbour/shop-api-{OLD}-bb7zd"
EXPECTED = {
    # Namespace -> lost in drains, the canary's errors, worse than stable: by Argo Rollouts, and by Flagger.
    "good": ("Successful", "Successful", "Successful", True, True, True),
    "bad": ("Successful", "Failed", "Failed", True, False, False),
    "both": ("Successful", "Failed", "Successful", True, False, True),
    "rare": ("Successful", "Failed", "Failed", True, False, False),
    "alone": ("Successful", "Successful", "Successful", True, True, True),
    "silent": ("Successful", "Inconclusive", "Inconclusive", True, False, False),
    "few": ("Successful", "Inconclusive", "Inconclusive", True, False, False),
    "absent": ("Inconclusive", "Inconclusive", "Inconclusive", False, False, False),
    "cut": ("Failed", "Successful", "Successful", False, True, True),
    "neighbour": ("Successful", "Successful", "Successful", True, True, True),
}


@needs_prometheus
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_each_canary_gets_the_verdict_that_it_deserves(tmp_path: Path):
    """By both controllers: errors, errors that the old version has too, silence, a drain that cut."""
    async with contextlib.AsyncExitStack() as stack:
        address, held = await stack.enter_async_context(application())
        town = Town(stack, address)
        names = [f"{space}/{CANARY}" for space in EXPECTED if space != "absent"]
        names += [f"{space}/{STABLE}" for space in WITH_STABLE]
        names.append(NEIGHBOUR)
        for name in names:
            # One after another: a machine that starts them all at once starts none in time.
            await town.pod(name)
        targets = {name: f"127.0.0.1:{proxy.admin[1]}" for name, proxy in town.pods.items()}
        # What is the stable version to one controller is the primary to the other.
        targets |= {
            FLAGGERS + name.replace(STABLE, PRIMARY): at for name, at in targets.items() if _has_stable(name)
        }
        labels = {name: dict(zip(("namespace", "pod"), name.split("/"), strict=True)) for name in targets}
        prometheus = await stack.enter_async_context(Prometheus(tmp_path, targets, "", {}, labels=labels))
        for name in names:
            space, _, pod = name.partition("/")
            await prometheus.until(
                f'drainproxy_phase{{namespace="{space}", pod="{pod}", phase="ready"}} == 1'
            )
        load = dict.fromkeys(names, (MANY, 0))
        load |= {f"bad/{CANARY}": (MANY, 20), f"rare/{CANARY}": (MANY, 3), f"few/{CANARY}": (5, 5)}
        load |= {f"both/{pod}": (MANY, 20) for pod in (CANARY, STABLE)}
        load |= {NEIGHBOUR: (0, MANY)}
        del load[f"silent/{CANARY}"]
        await asyncio.gather(*(ask(town.pods[name], *load[name]) for name in load))
        await _cut(town.pods[f"cut/{CANARY}"], held)
        await _cut(town.pods[NEIGHBOUR], held)
        for name, requests in load.items():
            await seen(prometheus, "drainproxy_requests_total{}", name, sum(requests))
            if _has_stable(name):
                alias = FLAGGERS + name.replace(STABLE, PRIMARY)
                await seen(prometheus, "drainproxy_requests_total{}", alias, sum(requests))
        for name in (f"cut/{CANARY}", NEIGHBOUR):
            lost = 'drainproxy_drain_requests_total{outcome=~"cut|timed_out"}'
            await seen(prometheus, lost, name, 1)
        found = {space: await argo(prometheus, space) for space in EXPECTED}
        checks = {
            space: await flagger(prometheus, FLAGGERS + space if _has_stable(space) else space)
            for space in EXPECTED
        }
    got = {space: (*found[space].values(), *checks[space].values()) for space in EXPECTED}
    assert got == EXPECTED


def _has_stable(name: str) -> bool:
    return name.partition("/")[0] in WITH_STABLE


async def _cut(proxy: Proxy, held: asyncio.Semaphore) -> None:
    """Drain it with a request that is not answered in time. By hand: it stays, and is scraped as before."""
    async with await Client.connect(proxy.addresses[0]) as client:
        await client.send(get("/hold"))
        async with asyncio.timeout(PATIENCE_S):
            await held.acquire()
        assert (await command(proxy, "drain"))[0] == 0
        await proxy.line("drain_report")
