"""Each number that the lifecycle and the cluster make is read back from a real scrape of a real pod's end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from pathlib import Path

import pytest

from drainproxy.metrics import Metrics
from tests.integration.scene import OK_CLOSE, command, entered, get, held
from tests.kube.cluster import BY_WORD, pod
from tests.support.client import Client
from tests.support.cluster.objects import Endpoint
from tests.support.http2 import GOAWAY, HEADERS, PING, PREFACE, Http2, frame, settings
from tests.support.process import Proxy
from tests.support.upstream import OK, Upstream
from tests.support.wire import PATIENCE_S

UPGRADE = get("/", "Connection: upgrade", "Upgrade: chat")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"

ANY = object()
"""More than nought."""

SERVING = {
    'build_info{flavour="': ANY,
    'phase{phase="ready"}': 1,
    'phase{phase="propagating"}': 0,
    'phase_duration_seconds{phase="starting"}': ANY,
    "drain_deadline_seconds": 0,
    "config_problems": ANY,
    "kubernetes_api_up": 1,
    'kubernetes_requests_total{result="ok",verb="read"}': ANY,
    'requests_total{code="200",listener="': 1,
    "request_duration_seconds_count": 2,
    "response_head_seconds_count": 2,
    'requests_in_flight{kind="http"}': 1,
    'requests_in_flight{kind="tunnel"}': 1,
    "requests_queued": 0,
    'client_connections{state="active"}': 2,
    "client_connections_accepted_total": 3,
    "client_connections_limit": ANY,
    "buffered_bytes": ANY,
    "buffered_bytes_limit": ANY,
    'bytes_total{direction="to_client"}': 2,
    "upstream_up": 1,
    "breaker_open": 0,
    'upstream_connections{state="active"}': 2,
    'upstream_connects_total{result="ok"}': ANY,
    "upstream_connect_seconds_count": ANY,
    "upstream_bypass_connections": 0,
    'headers_dropped_total{reason="underscore"}': 1,
    'upgrades_ignored_total{reason="h2c"}': 0,
    "upstream_reuse_off": 0,
    "event_loop_lag_seconds_count": ANY,
    'refused_total{reason="invalid-host"}': 1,
    'log_lines_dropped_total{reason="blocked"}': 0,
}
PROPAGATING = {
    'phase{phase="propagating"}': 1,
    "drain_deadline_seconds": ANY,
    'termination_cause_info{cause="unknown"}': 1,
    'late_connections_total{kind="request"}': 1,
    'late_connections_total{kind="probe"}': 1,
    'late_connections_total{kind="empty"}': 1,
    "late_requests_total": 1,
    "late_connection_age_seconds_count": 1,
    "last_late_seconds": ANY,
    "after_drained_total": 0,
}
DRAINED = {
    'phase{phase="drained"}': 1,
    'phase_duration_seconds{phase="propagating"}': ANY,
    'termination_cause_info{cause="deletion"}': 1,
    'propagation_end_total{reason="slices_quiet"}': 1,
    "endpoint_flip_seconds": ANY,
    "other_ready_endpoints": 1,
    'kubernetes_requests_total{result="ok",verb="watch"}': ANY,
    'kubernetes_requests_total{result="denied",verb="create"}': 2,
    "kubernetes_events_dropped_total": 2,
    # The late one, the probe, the one that was held, and the one that came after all was over.
    'drain_requests_total{outcome="finished"}': 4,
    'drain_tunnels_total{outcome="finished"}': 1,
    "drain_longest_request_seconds": ANY,
    "drain_unused_seconds": ANY,
    "after_drained_total": 1,
}
ELSEWHERE = {
    "clock_leaps_total": "chaos/rows_signals.py",
    **dict.fromkeys(
        ("h2_connections", "h2_streams_total", "h2_goaway_total", "h2_abuse_total"), "kube/test_metrics.py"
    ),
    "certificate_expiry_seconds": "integration/test_tls.py",
    "certificate_reloads_total": "integration/test_tls.py",
    "tls_handshakes_total": "integration/test_tls.py",
    "client_connections_crowded": "proxy/test_places.py",
    "client_connections_evicted_total": "integration/test_memory_limit.py",
    "trace_spans_total": "integration/test_tracing.py",
    **dict.fromkeys(("requests_held", "held_seconds"), "proxy/test_hold.py"),
    "held_total": "chaos/rows_restarts.py",
    "handoff_total": "kube/test_siblings.py",
    "handoff_received_total": "test_metrics.py",
    **dict.fromkeys(("warmup_seconds", "warmup_requests_total"), "integration/test_warmup.py"),
    "first_minute_duration_seconds": "integration/test_warmup.py",
    "errors_total": "kube/test_metrics.py",
    "retries_total": "kube/test_metrics.py",
}


async def shows(proxy: Proxy, wanted: dict[str, object]) -> None:
    """Scrape until everything is as wanted: what is counted after an answer is not counted before it."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while wrong := wrongs(await proxy.metrics(), wanted):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(wrong) from None


def wrongs(scraped: dict[str, float], wanted: dict[str, object]) -> dict[str, object]:
    """What a scrape says otherwise. A name that ends amid its labels is that of all series that begin so."""
    found = {
        name: sum(value for series, value in scraped.items() if series == name or _begins(series, name))
        for name in wanted
    }
    return {
        name: value
        for name, value in found.items()
        if not (value > 0 if wanted[name] is ANY else value == wanted[name])
    }


def _begins(series: str, name: str) -> bool:
    return "{" in name and not name.endswith("}") and series.startswith(name)


async def test_one_pods_life_moves_every_number(tmp_path):
    """It serves, a hook begins its drain, callers come late, the slices flip, and it is asked once more."""
    settings = {**BY_WORD, "events": "all", "propagation_margin": "200ms"}
    async with pod(tmp_path, rbac="slices+pod+events", granted="slices+pod", serves=False, **settings) as it:
        await it.looked()
        it.member.others = [Endpoint("web-2", "other")]
        it.member.write()
        client, application = await held(it.proxy, it.application, get("/", "X-User: a", "X_User: b"))
        await application.send(OK)
        await client.read_response()
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await application.read_request()
        tunnel, far = await held(it.proxy, it.application, UPGRADE)
        await far.send(SWITCHED)
        await tunnel.read_response()
        async with await it.proxy.client() as confused:
            await confused.ask(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        await shows(it.proxy, SERVING)

        code, said = await command(it.proxy, "drain", "--prestop")
        assert code == 0, said
        await it.api.journal.nth("watch", "endpointslices")
        for agent in ("curl/8", "kube-probe/1.36"):
            late, other = await held(it.proxy, it.application, get("/", f"User-Agent: {agent}"))
            await other.send(OK_CLOSE)
            await late.read_response()
        (await it.proxy.client()).close()
        await shows(it.proxy, PROPAGATING)

        it.member.delete()
        it.member.flip()
        await it.proxy.line("phase", phase="draining")
        await application.send(OK_CLOSE)
        await client.read_response()
        tunnel.close()
        far.close()
        await it.proxy.line("phase", phase="drained")
        late, other = await held(it.proxy, it.application)
        await other.send(OK_CLOSE)
        await late.read_response()
        await shows(it.proxy, DRAINED)
        await it.end()


async def test_a_request_that_is_sent_again_and_one_that_waits_are_counted():
    """The application hangs up on a kept connection; then it is given one request at a time."""
    async with Upstream() as upstream, Proxy(upstreams=[upstream.address], max_in_flight="1") as proxy:
        await proxy.ready()
        client, application = await held(proxy, upstream)
        await application.send(OK)
        await client.read_response()
        await client.send(get())
        await application.read_request()
        application.close()
        again = await entered(upstream)
        waiting = await proxy.client()
        await waiting.send(get())
        await shows(proxy, {"retries_total": 1, "requests_queued": 1})
        again.close()
        assert (await client.read_response()).status == 502
        await shows(proxy, {'errors_total{reason="': 1, "requests_queued": 0})


async def test_callers_that_go_around_the_proxy_are_counted():
    """They come from beyond loopback to the application's own port; the proxy's connections do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire, contextlib.suppress(OSError):
        wire.connect(("192.0.2.1", 9))  # Sends nothing: it asks for this machine's address.
        own = wire.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has no address but loopback's")
    async with Upstream(host="0.0.0.0") as upstream, Proxy(upstreams=[upstream.address]) as proxy:
        await proxy.ready()
        await held(proxy, upstream)
        await shows(proxy, {"upstream_bypass_connections": 0, 'upstream_connections{state="active"}': 1})
        async with await Client.connect((own, upstream.port)):
            await shows(proxy, {"upstream_bypass_connections": 1})
        await shows(proxy, {"upstream_bypass_connections": 0})


async def test_http2_is_counted():
    """A stream ends well, a drain says goodbye, and a client that only pings is thrown out."""
    async with Upstream() as upstream, Proxy(upstreams=[upstream.address], h2_max_pings="10") as proxy:
        await proxy.ready()
        client = Http2(await proxy.client())
        await client.introduce()
        application = Http2(await upstream.connection_with_bytes())
        await application.greet()
        await client.send(client.request(1))
        await application.next(HEADERS)
        await application.send(application.response(1, end=True))
        await client.next(HEADERS)
        await shows(proxy, {"h2_connections": 1, 'h2_streams_total{outcome="finished"}': 1})
        pest = Http2(await proxy.client())
        await pest.send(PREFACE, settings(), *[frame(PING, payload=bytes(8))] * 200)
        await shows(proxy, {"h2_connections": 1, 'h2_abuse_total{kind="ping"}': 1})
        code, said = await command(proxy, "drain", "--prestop")
        assert code == 0, said
        await client.next(GOAWAY)
        await shows(proxy, {'h2_goaway_total{reason="drain"}': 1})


def test_every_metric_is_read_from_a_scrape():
    """One that nobody reads may be wrong for years."""
    here = {re.sub(r"(_count)?(\{.*)?$", "", name) for name in (*SERVING, *PROPAGATING, *DRAINED)}
    names = {metric.name for metric in Metrics().families()}
    assert names == here | ELSEWHERE.keys()
    for name, file in ELSEWHERE.items():
        assert name in (Path(__file__).parents[1] / file).read_text()
