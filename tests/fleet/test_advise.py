"""`drainproxy advise`: from files and from a real Prometheus, and one line for whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import sys
import time
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from tests.fleet.records import report
from tests.support.authority import Authority
from tests.support.command import environment

if TYPE_CHECKING:
    from pathlib import Path

PROMETHEUS = shutil.which("prometheus")


async def advise(*words: str, stdin: str = "") -> tuple[int, str, str]:
    """Run the command; return its exit code and what it said."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drainproxy", "advise", *words),
        env=environment(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await child.communicate(stdin.encode())
    assert child.returncode is not None
    return child.returncode, out.decode(), err.decode()


def lines(count: int, **changes: object) -> str:
    """Return lines of a log in which so many drains ended, among others."""
    said = report(namespace="shop", workload="web", **changes)
    each = json.dumps({"time": "t", "level": "info", "event": "drain_report", **said})
    return f'{{"event": "phase"}}\n{each}\nno json\n' * count


async def test_reports_of_a_log_become_advice(tmp_path: Path):
    """By workload: what was seen, every preset, and the cheapest that is enough."""
    file = tmp_path / "log"
    file.write_text(lines(5))
    code, out, err = await advise(str(file))
    assert (code, err) == (0, "")
    assert out.startswith("shop/web: 5 drains\n")
    assert "propagation ended   slices_quiet 5" in out
    assert "late after flip     p50 1.0 s" in out
    (best,) = [line.split() for line in out.splitlines() if "<- the cheapest" in line]
    assert best[0] == "cluster"
    assert "set propagation to cluster and terminationGracePeriodSeconds to 30" in out


async def test_machines_read_json_from_standard_input():
    """Exit 1 where no preset is known to be enough."""
    code, out, _ = await advise("-", "--output", "json", stdin=lines(2, ended="max", last_late_s=5.4))
    said = json.loads(out)["shop/web"]
    assert (code, said["drains"], said["cut_short"], said["best"]) == (1, 2, 2, None)


async def test_what_cannot_be_read_is_one_line(tmp_path: Path):
    """No file, no report in it, no Prometheus, one that is none, a certificate that nobody knows."""
    empty = tmp_path / "empty"
    empty.write_text("nothing\n")
    authority = Authority(tmp_path)
    certificate, key = authority.issue("127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    cases = [
        ([str(tmp_path / "none")], "No such file"),
        ([str(empty)], "no report of a drain in"),
        (["--prometheus", f"http://127.0.0.1:{port}"], "Connection refused"),
        (["--prometheus", "ftp://x"], "is no http or https URL"),
        (["--prometheus", "http://127.0.0.1:1/", "--token-file", str(tmp_path / "none")], "No such file"),
    ]

    async def page(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="<!doctype html>", content_type="text/html")

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    runner = web.ServerRunner(web.Server(page))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    cases += [
        (["--prometheus", url], "unable to get local issuer certificate"),
        (["--prometheus", url, "--ca", str(authority.file)], "answers, and is no Prometheus"),
    ]
    try:
        for words, why in cases:
            code, out, err = await advise(*words)
            assert (code, out) == (69, ""), words
            assert why in err
            assert len(err.splitlines()) == 1, err
    finally:
        await runner.cleanup()
    for words in ([], ["a", "--prometheus", "http://b"], ["a", "--share", "0"]):
        assert (await advise(*words))[0] == 64


SERIES = """\
# TYPE drainproxy_propagation_end counter
drainproxy_propagation_end_total{namespace="shop",workload="web",pod="web-1",reason="slices_quiet"} 1 NOW
drainproxy_propagation_end_total{namespace="shop",workload="web",pod="web-1",reason="max"} 0 NOW
drainproxy_propagation_end_total{namespace="shop",workload="web",pod="web-2",reason="slices_quiet"} 0 NOW
# TYPE drainproxy_endpoint_flip_seconds gauge
drainproxy_endpoint_flip_seconds{namespace="shop",workload="web",pod="web-1"} 0.5 NOW
# TYPE drainproxy_last_late_seconds gauge
drainproxy_last_late_seconds{namespace="shop",workload="web",pod="web-1"} 1.5 NOW
# TYPE drainproxy_drain_unused_seconds gauge
drainproxy_drain_unused_seconds{namespace="shop",workload="web",pod="web-1"} 16 NOW
# TYPE drainproxy_drain_longest_request_seconds gauge
drainproxy_drain_longest_request_seconds{namespace="shop",workload="web",pod="web-1"} 0.8 NOW
# TYPE drainproxy_phase_duration_seconds gauge
drainproxy_phase_duration_seconds{namespace="shop",workload="web",pod="web-1",phase="propagating"} 4.5 NOW
# EOF
"""


@pytest.mark.skipif(PROMETHEUS is None, reason="no Prometheus: apt-get install prometheus")
async def test_a_real_prometheus_is_asked(tmp_path: Path):
    """Pods that drained, and no others; and one that has none says so in one line."""
    promtool = shutil.which("promtool")
    assert PROMETHEUS is not None
    assert promtool is not None
    file, data = tmp_path / "series", tmp_path / "data"
    now = time.time()
    file.write_text(SERIES.replace(" NOW", f" {now - 60:.3f}"))
    made = await asyncio.create_subprocess_exec(
        *(promtool, "tsdb", "create-blocks-from", "openmetrics", str(file), str(data)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await made.wait() == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {}\n")
    server = await asyncio.create_subprocess_exec(
        *(PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={data}"),
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.PIPE,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        assert server.stderr is not None
        async with asyncio.timeout(60):
            while b"ready to receive web requests" not in await server.stderr.readline():
                pass
        code, out, err = await advise("--prometheus", url, "--output", "json")
        assert (code, err) == (0, "")
        said = json.loads(out)
        assert list(said) == ["shop/web"]
        assert said["shop/web"]["drains"] == 1
        assert said["shop/web"]["best"]["preset"] == "cluster"
        code, out, err = await advise("--prometheus", url, "--match", 'namespace="other"')
        assert (code, out) == (69, "")
        assert "has no drain of the last 30d" in err
        code, _, err = await advise("--prometheus", url, "--range", "soon")
        assert (code, len(err.splitlines())) == (69, 1)
        assert "answers 400" in err
    finally:
        server.terminate()
        await server.communicate()


async def test_a_namespace_chooses_drains_of_files_and_of_a_prometheus(tmp_path: Path):
    """`-n`, as everywhere; it joins what --match says."""
    file = tmp_path / "log"
    file.write_text(lines(3) + lines(2).replace('"shop"', '"till"'))
    for namespace, drains in (("shop", 3), ("till", 2)):
        code, out, _ = await advise(str(file), "-n", namespace)
        assert code == 0
        assert out.startswith(f"{namespace}/web: {drains} drains\n")
        assert out.count(" drains\n") == 1
    code, _, err = await advise(str(file), "--namespace", "nowhere")
    assert code == 69
    assert "no report of a drain of namespace nowhere in" in err
    asked = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append((await request.post()).get("query") or request.query.get("query", ""))
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": []}})

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    await advise("--prometheus", url, "-n", 'sh"op', "--match", 'workload="web"')
    await runner.cleanup()
    assert asked
    assert all('{namespace="sh\\"op",workload="web"}' in query for query in asked)
