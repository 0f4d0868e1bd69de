"""The routes of the TCP listener, asked over real sockets."""

from __future__ import annotations

import asyncio
import socket

import pytest

from drainproxy.admin import server
from drainproxy.lifecycle.propagation import Rules
from drainproxy.lifecycle.settings import ReadinessOnDrain
from tests.admin.premises import FOREVER, Job, Premises
from tests.support.hold import hold


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/lb-health"])
async def test_a_ready_proxy_passes_every_probe(premises, path):
    """One short line each, for GET and for HEAD."""
    answer = await premises.ask(f"GET {path}")
    assert (answer.status, answer.text.count("\n")) == (200, 1)
    head = await premises.ask(f"HEAD {path}")
    assert (head.status, head.body) == (200, b"")


async def test_before_the_application_answers_the_proxy_is_alive_and_started_but_not_ready(tmp_path):
    """The startup probe of a native sidecar must pass before the application's container exists."""
    premises = Premises(tmp_path)
    await premises.open(up=False)
    assert [
        (await premises.ask(f"GET {path}")).status
        for path in ("/livez", "/startupz", "/readyz", "/lb-health")
    ] == [200, 200, 503, 503]
    await premises.close()


async def test_a_readiness_probe_waits_a_moment_for_an_application_that_starts(tmp_path, monkeypatch):
    """The kubelet would write a Warning for its 503, and ask again only a period later."""
    monkeypatch.setattr(server, "START_HOLD_S", 3600.0)
    premises = Premises(tmp_path)
    await premises.open(up=False)
    probe = await premises.call("GET /readyz", head="Host: localhost\r\nUser-Agent: kube-probe/1.36")
    # Who is no kubelet is told at once, and the probe has been read by then.
    assert (await premises.ask("GET /readyz")).status == 503
    while premises.controller.probes.last is None:
        await asyncio.sleep(0)
    premises.controller.upstream_answers()
    assert (await probe.answer()).status == 200
    await premises.close()


async def test_a_readiness_probe_does_not_wait_for_longer(tmp_path, monkeypatch):
    """An application that takes its time is not ready, and that is said within the probe's timeout."""
    monkeypatch.setattr(server, "START_HOLD_S", 0.01)
    premises = Premises(tmp_path)
    await premises.open(up=False)
    kubelet = "Host: localhost\r\nUser-Agent: kube-probe/1.36"
    assert (await premises.ask("GET /readyz", head=kubelet)).status == 503
    premises.controller.upstream_answers()
    premises.sigterm()
    monkeypatch.setattr(server, "START_HOLD_S", 3600.0)
    assert (await premises.ask("GET /readyz", head=kubelet)).status == 503
    await premises.close()


async def test_started_means_that_the_listeners_are_bound(premises):
    """The admin port opens first."""
    premises.listeners = []
    answer = await premises.ask("GET /startupz")
    assert (answer.status, answer.text) == (503, "not started: listeners are not bound yet\n")


async def test_from_the_start_of_a_drain_on_the_proxy_is_not_ready_but_alive(premises):
    """503 is what makes the cluster look elsewhere; a failed liveness probe would kill the drain."""
    premises.sigterm()
    ready = await premises.ask("GET /readyz?verbose")
    assert (ready.status, ready.text) == (
        503,
        "[-] phase: propagating\n[+] application: accepts connections\nnot ready: propagating\n",
    )
    assert (await premises.ask("GET /lb-health")).status == 503
    assert (await premises.ask("GET /livez")).status == 200
    assert (await premises.ask("GET /startupz")).status == 200


async def test_a_delayed_readiness_keeps_200_on_readyz_and_never_on_lb_health(tmp_path):
    """`readiness_on_drain: delay` is for the kubelet; a balancer is told at once."""
    premises = Premises(tmp_path, readiness_on_drain=ReadinessOnDrain("delay", 3600.0))
    await premises.open()
    premises.sigterm()
    assert (await premises.ask("GET /readyz")).text == "ready, though propagating\n"
    assert (await premises.ask("GET /lb-health")).status == 503
    await premises.close()


async def test_an_application_that_stops_answering_takes_readiness_with_it(premises):
    """And gives it back."""
    premises.controller.upstream_refuses()
    assert (await premises.ask("GET /readyz")).status == 503
    premises.controller.upstream_answers()
    assert (await premises.ask("GET /readyz")).status == 200


@pytest.mark.parametrize("path", ["/nope", "/livez/", "/drain", "/undrain", "//livez", "/status/x"])
async def test_unknown_paths_are_404_and_control_is_not_on_tcp(premises, path):
    """A POST from within the pod could be forged through the application."""
    for method in ("GET", "POST"):
        assert (await premises.ask(f"{method} {path}")).status == 404
    assert not premises.controller.published.draining


@pytest.mark.parametrize(
    ("line", "allow"),
    [
        ("POST /livez", "GET, HEAD"),
        ("POST /drain/wait", "GET"),
        ("HEAD /drain/wait", "GET"),
        ("HEAD /metrics", "GET"),
        ("DELETE /status", "GET, HEAD"),
    ],
)
async def test_other_methods_are_405(premises, line, allow):
    """HEAD neither waits nor counts as a scrape."""
    answer = await premises.ask(line)
    assert (answer.status, answer.fields["allow"]) == (405, allow)


@pytest.mark.parametrize(
    "line",
    [
        "GET /livez",
        "GET /metrics",
        "GET /status",
        "GET /",
        "GET /nope",
        "PUT /livez",
        "GET /livez GET",
        "NONSENSE",
        f"GET /{'x' * 3000}",
    ],
    ids=range(9),
)
async def test_every_answer_forbids_caching_and_tells_no_version(premises, line):
    """Also what is answered when the request is no HTTP."""
    answer = await premises.ask(line)
    assert answer.fields["cache-control"] == "no-store"
    assert answer.fields["server"] == "drainproxy"
    if "/metrics" not in line:
        assert b"h11" not in answer.body


async def test_a_request_that_is_no_http_is_refused_without_a_line_in_the_log(premises, caplog):
    """A port scanner must not fill the log with tracebacks."""
    answer = await premises.ask("\x16\x03\x01 nonsense")
    assert (answer.status, answer.text) == (400, "malformed request\n")
    assert caplog.records == []


async def test_status_shows_a_drain_and_its_work(premises):
    """Phase, what it waits for, the clock, the oldest work first, and nothing after a question mark."""
    older, younger = Job(method="GET", path="/slow"), Job("tunnel", path="/ws")
    with hold(premises.inflight, older), hold(premises.inflight, younger):
        premises.sigterm()
        premises.metrics.late_requests.inc()
        premises.controller.late_arrival(premises.loop.time())
        shown = (await premises.ask("GET /status")).json
    assert (shown["phase"], shown["ready"], shown["version"]) == ("propagating", False, "1.2.3")
    assert shown["waiting_for"] == "min, without the cluster's word"
    assert 0 < shown["deadline_in_s"] <= 7192
    assert shown["drain"]["cause"] == "unknown"
    assert shown["drain"]["final"] is True
    assert (shown["drain"]["in_flight_at_start"], shown["drain"]["late_requests"]) == (2, 1)
    assert shown["in_flight"]["kinds"] == {"http": 1, "tunnel": 1}
    assert [row["path"] for row in shown["in_flight"]["oldest"]] == ["/slow", "/ws"]
    assert shown["in_flight"]["oldest"][0]["deadline_in_s"] <= 7192


async def test_status_shows_the_last_report(premises):
    """The same fields as the log line."""
    premises.sigterm()
    premises.finish()
    shown = (await premises.ask("GET /status")).json
    (line,) = premises.diary.of("drain_report")
    assert shown["phase"] == "drained"
    assert shown["waiting_for"] == "exit"
    assert shown["report"] == {name: line[name] for name in shown["report"]}


async def test_status_names_settings_that_do_not_fit(tmp_path):
    """The sentence that says which number to change."""
    premises = Premises(tmp_path, rules=Rules(5, 2, 2, 15), grace_period=20.0)
    await premises.open()
    (problem,) = (await premises.ask("GET /status")).json["config_problems"]
    assert problem.startswith("grace period 20 s is too short")
    await premises.close()


@pytest.mark.parametrize("path", ["/status", "/"])
@pytest.mark.parametrize(
    "field",
    [
        "Origin: https://site.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ],
)
async def test_status_is_refused_to_other_web_sites(premises, path, field):
    """A page somewhere makes the operator's browser ask the forwarded port."""
    answer = await premises.ask(f"GET {path}", head=f"Host: localhost\r\n{field}")
    assert (answer.status, answer.text) == (403, "not for other web sites\n")


async def test_status_is_refused_by_a_name_that_was_rebound_to_loopback(premises):
    """To the browser that page is same-origin with us."""
    answer = await premises.ask("GET /status", head="Host: rebound.example\r\nSec-Fetch-Site: same-origin")
    assert answer.status == 403


async def test_our_own_page_may_ask(premises):
    """What a browser sends from it."""
    answer = await premises.ask("GET /status", head="Host: localhost:29900\r\nSec-Fetch-Site: same-origin")
    assert answer.status == 200


async def test_status_is_refused_from_outside_and_everything_else_is_not(tmp_path):
    """The pod network may probe, scrape and wait; callers' paths stay in the pod."""
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    premises = Premises(tmp_path, host="0.0.0.0", rules=FOREVER)
    await premises.open()
    for path in ("/status", "/"):
        answer = await premises.ask(f"GET {path}", host=address)
        assert (answer.status, answer.text) == (403, "only from loopback: use kubectl port-forward\n")
        assert (await premises.ask(f"GET {path}")).status == 200
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await premises.ask(f"GET {path}", host=address)).status == 200
    await premises.close()


async def test_after_stop_nobody_is_answered(premises):
    """The port is closed, not silent."""
    await premises.close()
    with pytest.raises(ConnectionRefusedError):
        await premises.ask("GET /livez")


def own_address() -> str | None:
    """Return an address of this machine that is not loopback, found without sending anything."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return None if address.startswith("127.") else address
