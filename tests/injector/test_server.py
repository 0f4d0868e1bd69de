"""The webhook as a process: over TLS, with certificates that change, and with an end of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import io
import json
import re
import signal
import ssl
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.injector.pods import app, pod, wished
from tests.injector.ways import patched, review
from tests.support.authority import Authority
from tests.support.command import drainproxy, environment
from tests.support.wire import PATIENCE_S


class Webhook:
    """A running webhook, its log and a client that believes its authority."""

    def __init__(self, directory, *more: str, **env: str) -> None:
        self.more, self.env = more, env
        self.version: tuple[str, ...] = ("--kubernetes", "1.36")
        self.authority = Authority(directory)
        self.certificate, self.key = self.authority.issue()
        self.lines: list[dict] = []
        self._more = asyncio.Event()

    async def start(self) -> None:
        command = [sys.executable, "-m", "drainproxy", "webhook", "--log-format", "json"]
        command += [
            "--cert",
            str(self.certificate),
            "--key",
            str(self.key),
            "--revision",
            "canary=example/new:2",
        ]
        command += self.version
        command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--image", "example/drainproxy:1"]
        self.process = await asyncio.create_subprocess_exec(
            *command, *self.more, env=environment(**self.env), stdout=asyncio.subprocess.PIPE
        )
        self._reading = asyncio.get_running_loop().create_task(self._read())
        address = (await self.line("listening", listener="webhook"))["address"]
        self.url = f"https://localhost:{address.rpartition(':')[2]}/mutate"
        self.admin = "http://" + (await self.line("listening", listener="admin"))["address"]

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            self.lines.append(json.loads(raw))
            self._more.set()

    async def line(self, event: str, /, **match) -> dict:
        """Return the first log line that fits; wait for it."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for line in self.lines:
                    if line["event"] == event and match.items() <= line.items():
                        return line
                self._more.clear()
                await self._more.wait()

    def session(self, patience_s: float | None = PATIENCE_S) -> aiohttp.ClientSession:
        """Return a new client: each has connections of its own."""
        context = ssl.create_default_context(cafile=self.authority.file)
        connector = aiohttp.TCPConnector(ssl=context, family=2)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(patience_s))

    async def ask(
        self, body: bytes, path: str = "/mutate", patience_s: float | None = PATIENCE_S
    ) -> tuple[int, dict | str]:
        """Post a review on a connection of its own; return the status, and the answer."""
        url = f"{self.url.replace('/mutate', path)}?timeout=2s"
        async with self.session(patience_s) as session, session.post(url, data=io.BytesIO(body)) as answer:
            return answer.status, await (answer.json() if answer.status == 200 else answer.text())

    async def ask_at_once(self, body: bytes, count: int) -> list[tuple[int, dict | str]]:
        """Post one review so many times. They are worked on one by one: patience is for the next answer.

        Who is refused while it sends may meet the close before the word: status 0 (RFC 9112 section 9.6).
        """
        tasks = [asyncio.ensure_future(self.ask(body, patience_s=None)) for _ in range(count)]
        waiting = set(tasks)
        try:
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
                )
                assert done, (
                    f"{len(waiting)} of {count} reviews are not answered, and none was for {PATIENCE_S} s"
                )
        finally:
            for task in waiting:
                task.cancel()
        return [
            (0, str(reset)) if isinstance(reset := task.exception(), aiohttp.ClientOSError) else task.result()
            for task in tasks
        ]

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.admin + path) as answer:
            return answer.status, await answer.text()

    async def count(self, series: str) -> float:
        _, text = await self.get("/metrics")
        [value] = [line.split()[-1] for line in text.splitlines() if line.startswith(f"drainproxy_{series} ")]
        return float(value)


@pytest.fixture
async def webhook(tmp_path):
    made = Webhook(tmp_path)
    try:
        await made.start()
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            made.process.kill()
        await made.process.wait()
        await made._reading


async def test_a_pod_is_patched(webhook):
    """The answer has the request's uid, a patch that puts the sidecar in, and the words that go with it."""
    asked = pod(app("app", ("http", 8080), ("metrics", 9090)), labels={"drainproxy.io/rev": "canary"})
    status, answer = await webhook.ask(review(asked, uid="a-uid"))
    assert (status, answer["apiVersion"], answer["kind"]) == (200, "admission.k8s.io/v1", "AdmissionReview")
    response = answer["response"]
    assert (response["uid"], response["allowed"], response["patchType"]) == ("a-uid", True, "JSONPatch")
    made = patched(asked, json.loads(base64.b64decode(response["patch"])))
    assert made["spec"]["initContainers"][-1]["image"] == "example/new:2"
    assert response["warnings"] == [
        "drainproxy: callers reach metrics 9090 around the sidecar, where nothing drains"
    ]
    assert await webhook.count('webhook_reviews_total{result="injected"}') == 1
    assert (await webhook.line("review"))["pod"] == "shop/web"


def applied(template: dict, kind: str = "Deployment", **request) -> bytes:
    """Return the review of a workload that somebody applies."""
    thing = {"kind": kind, "metadata": {"name": "web"}, "spec": {"template": template}}
    return review({"apiVersion": "apps/v1", **thing}, operation="UPDATE", **request)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
async def test_whoever_applies_a_workload_hears_what_will_become_of_its_pods(webhook, kind):
    """At once, as warnings: it is admitted as it is, whatever there is to say."""
    good, bad = {**pod()}, pod(app("app", ("redis", 6379)))
    _, answer = await webhook.ask(applied(good, kind), "/check")
    assert answer["response"] == {"uid": answer["response"]["uid"], "allowed": True}
    _, answer = await webhook.ask(applied(bad, kind), "/check")
    assert answer["response"]["allowed"] is True
    assert "patch" not in answer["response"]
    assert answer["response"]["warnings"][0].startswith(
        "drainproxy: no sidecar: no container port says that it speaks HTTP (there are: redis 6379)"
    )
    assert await webhook.count('webhook_checks_total{result="injected"}') == 1
    assert await webhook.count('webhook_checks_total{result="refused"}') == 1
    assert await webhook.count('webhook_reviews_total{result="refused"}') == 0
    assert (await webhook.line("check", result="refused"))["pod"] == "shop/web"


@pytest.mark.parametrize(
    "body",
    [
        applied(pod(), "Job"),
        review({"kind": "Deployment", "metadata": {}, "spec": {}}, operation="UPDATE"),
        review({"kind": "Deployment", "metadata": {}, "spec": [7]}, operation="UPDATE"),
        review(pod()),
        b"{}",
    ],
    ids=["another kind", "no template", "no mapping", "a pod", "nothing"],
)
async def test_what_is_no_workload_is_malformed(webhook, body):
    """The API server's failurePolicy admits it."""
    status, _ = await webhook.ask(body, "/check")
    assert status == 400
    assert await webhook.count('webhook_checks_total{result="malformed"}') == 1


async def test_a_pod_that_says_no(webhook):
    """A pod that does not want it is admitted without a patch and without a word."""
    asked = pod(labels={"drainproxy.io/inject": "false"})
    _, answer = await webhook.ask(review(asked, uid="u"))
    assert answer["response"] == {"uid": "u", "allowed": True}
    assert await webhook.count('webhook_reviews_total{result="unchanged"}') == 1


async def test_invalid_annotations(webhook):
    """The pod is admitted unchanged, with warnings that name annotation and allowed values, and counted."""
    _, answer = await webhook.ask(review(wished(propagation="elb", app_stop="5")))
    response = answer["response"]
    assert response["allowed"] is True
    assert "patch" not in response
    assert "patchType" not in response
    said = " ".join(each.removeprefix("drainproxy: ") for each in response["warnings"])
    assert (
        'propagation (drainproxy.io/propagation): "elb" is unknown; write one of none, cluster, mesh' in said
    )
    assert 'app_stop (drainproxy.io/app-stop): "5" has no unit; write a duration' in said
    assert max(map(len, response["warnings"])) <= 120
    assert await webhook.count('webhook_reviews_total{result="invalid"}') == 1


async def test_what_an_annotation_says_stays_data(webhook):
    """kubectl shows a warning to a person, the log is read by machines: neither gets an order or a line."""
    evil = '\x1b[2J\n{"event":"evil"}\r\x9b\u2028\u202e'
    asked = wished(propagation=evil, ports=evil, app_stop=evil)
    asked["metadata"]["name"] = asked["metadata"]["namespace"] = evil
    asked["metadata"]["annotations"]["drainproxy.io/" + evil] = evil
    status, answer = await webhook.ask(review(asked))
    assert (status, answer["response"]["allowed"]) == (200, True)
    assert len(answer["response"]["warnings"]) >= 3
    assert all(each.isprintable() for each in answer["response"]["warnings"])
    line = await webhook.line("review", result="invalid")
    assert line["said"]
    assert "evil" not in {each["event"] for each in webhook.lines}
    assert "evil" not in (await webhook.get("/metrics"))[1]


MALFORMED = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[1]",
    "deep": b"[" * 100_000,
    "no UTF-8": b"\xff\xfe",
    "no request": b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}',
    "no pod": review(None),
    "a pod of another shape": review({"kind": "Pod", "metadata": {}, "spec": {"containers": "x"}}),
    "a deletion": review(pod(), operation="DELETE"),
    "no uid": review(pod(), uid=7),
    "another version": review(pod()).replace(b"admission.k8s.io/v1", b"admission.k8s.io/v1beta1"),
    "another kind": review({**pod(), "kind": "Deployment"}),
}


async def test_what_is_no_review(webhook):
    """It is answered 400 in one line, counted, and the webhook lives."""
    for name, body in MALFORMED.items():
        status, text = await webhook.ask(body)
        assert (status, text.count("\n")) == (400, 1), name
    assert (await webhook.ask(b" " * (3 * 1024 * 1024 + 1)))[0] == 413
    assert await webhook.count('webhook_reviews_total{result="malformed"}') == len(MALFORMED) + 1
    assert (await webhook.ask(review(pod())))[0] == 200


@pytest.mark.parametrize(
    "body",
    [b"hello", gzip.compress(b"{}")[:-9], gzip.compress(b"{}") + b"x" * 100],
    ids=["none", "cut", "more"],
)
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_broken_compression_is_no_review(webhook, body, coding):
    """400 in one line, not a defect of ours; the API server compresses nothing."""
    headers = {"Content-Encoding": coding}
    async with webhook.session() as session, session.post(webhook.url, data=body, headers=headers) as answer:
        assert (answer.status, (await answer.text()).count("\n")) == (400, 1)
    assert (await webhook.ask(review(pod())))[0] == 200


SIZE = 3 * 1024 * 1024 - 4096
LARGEST = {
    "lists": b"[" + b"[]," * (SIZE // 3 - 1) + b"0]",
    "objects": b"[" + b'{"":{}},' * (SIZE // 8 - 1) + b"0]",
    "strings": b"[" + b'"ab",' * (SIZE // 5 - 1) + b"0]",
    "numbers": b"[" + b"1e1," * (SIZE // 4 - 1) + b"0]",
    "a wide string": ('["' + "\U0001f600" * (SIZE // 4 - 4) + '"]').encode(),
    "names": b"{" + b",".join(b'"%x":1' % number for number in range(SIZE // 10)) + b"}",
}


async def test_the_largest_reviews_fit_into_its_memory(webhook):
    """The chart gives it 192 MiB; injection fails open where it dies, so nobody may kill it with a review."""
    wish = review(wished()).replace(b'"metadata": {', b'"metadata": {"junk": 0, ', 1)
    assert b'"junk": 0' in wish
    for junk in LARGEST.values():
        inside = wish.replace(b'"junk": 0', b'"junk": ' + junk, 1)
        answers = await webhook.ask_at_once(inside, 8)
        assert {status for status, _ in answers} <= {0, 200, 400, 503}
        assert {status for status, _ in answers} & {200, 400}
    assert (await webhook.ask(review(pod())))[0] == 200
    status = Path(f"/proc/{webhook.process.pid}/status").read_text()
    peak_kib = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    assert peak_kib < 150 * 1024


async def test_a_crowd_of_unfinished_reviews_is_bounded(webhook):
    """Anybody on the pod network may begin large reviews: together they hold little, and real ones get in."""
    context = ssl.create_default_context(cafile=webhook.authority.file)
    port = int(webhook.url.rpartition(":")[2].removesuffix("/mutate"))
    head = b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
    crowd = []
    for _ in range(6):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost"
        )
        writer.write(head + b" " * 2_900_000)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        crowd.append((reader, writer))
    async with asyncio.timeout(PATIENCE_S):
        answers = [asyncio.ensure_future(reader.readline()) for reader, _ in crowd]
        done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
    assert {answer.result() for answer in done} == {b"HTTP/1.1 503 Service Unavailable\r\n"}
    assert (await webhook.ask(review(pod())))[0] == 200
    for answer, (_, writer) in zip(answers, crowd, strict=True):
        answer.cancel()
        writer.transport.abort()


@pytest.mark.slow
async def test_a_review_that_does_not_end_is_given_up(webhook):
    """Nobody waits for it any more."""
    context = ssl.create_default_context(cafile=webhook.authority.file)
    port = int(webhook.url.rpartition(":")[2].removesuffix("/mutate"))
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    writer.write(b"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    async with asyncio.timeout(60):
        assert await reader.readline() == b"HTTP/1.1 503 Service Unavailable\r\n"
    writer.transport.abort()


async def test_a_crowd_that_shakes_no_hand_is_bounded(webhook):
    """A connection counts from its accept on: the oldest gives way, and real reviews get in."""
    port = int(webhook.url.rpartition(":")[2].removesuffix("/mutate"))
    crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
    async with asyncio.timeout(PATIENCE_S):
        for reader, _ in crowd[: 300 - 256]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
    assert (await webhook.ask(review(pod())))[0] == 200
    for _, writer in crowd:
        writer.transport.abort()


async def test_health(webhook):
    """The kubelet asks in clear text, and nothing else is there."""
    assert [(await webhook.get(path))[0] for path in ("/livez", "/readyz", "/mutate", "/")] == [
        200,
        200,
        404,
        404,
    ]


async def test_a_new_certificate(webhook):
    """A renewed certificate is taken on SIGHUP; one that is missing or has expired leaves the old one."""
    serial = await served(webhook)
    webhook.authority.issue()
    webhook.process.send_signal(signal.SIGHUP)
    await webhook.line("certificate", level="info")
    renewed = await served(webhook)
    assert renewed != serial
    for number, break_it in enumerate(
        (webhook.key.unlink, lambda: webhook.authority.issue(days=-1)), start=1
    ):
        break_it()
        webhook.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(PATIENCE_S):
            while sum(line.get("kept", False) for line in webhook.lines) < number:
                webhook._more.clear()
                await webhook._more.wait()
        assert await served(webhook) == renewed
        assert await webhook.count('certificate_reloads_total{result="failed"}') == number


@pytest.mark.slow
async def test_a_certificate_that_is_renewed_unasked(webhook):
    """Nobody sends a signal when a Secret's files change: they are looked at every ten seconds."""
    before = await served(webhook)
    webhook.authority.issue()
    # One log line, and the next handshake has it; connections and reviews go on meanwhile.
    assert (await webhook.line("certificate", level="info"))["days_left"] == pytest.approx(30, abs=1)
    assert await served(webhook) != before
    assert await webhook.count('certificate_reloads_total{result="ok"}') == 1
    assert await webhook.count('certificate_reloads_total{result="failed"}') <= 1
    assert (await webhook.ask(review(pod())))[0] == 200


async def served(webhook: Webhook) -> bytes:
    """Return the certificate that a handshake gets."""
    port = int(webhook.url.rpartition(":")[2].removesuffix("/mutate"))
    context = ssl.create_default_context(cafile=webhook.authority.file)
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    try:
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()


@pytest.mark.slow
async def test_the_end(webhook):
    """After SIGTERM it is not ready, goes on answering, tells callers to go elsewhere, and exits 0."""
    async with webhook.session() as session:
        async with session.post(webhook.url, data=review(pod())) as answer:
            assert answer.status == 200
            assert "Connection" not in answer.headers
        webhook.process.send_signal(signal.SIGTERM)
        await webhook.line("ending")
        assert (await webhook.get("/readyz"))[0] == 503
        async with session.post(webhook.url, data=review(pod())) as answer:
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
    async with asyncio.timeout(60):
        assert await webhook.process.wait() == 0
        await webhook._reading
    assert webhook.lines[-1]["event"] == "exit"


async def test_a_person_does_not_wait(webhook):
    """SIGINT ends it at once."""
    webhook.process.send_signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE_S):
        assert await webhook.process.wait() == 0


def test_a_missing_certificate(tmp_path):
    """Without a certificate there is no start, and one line says why."""
    done = drainproxy("webhook", "--cert", f"{tmp_path}/tls.crt", "--key", f"{tmp_path}/tls.key")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == f"drainproxy: {tmp_path}/tls.crt: no such file or directory\n"
