"""The door to the API: what is sent, and what becomes of every answer that is none."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from drainproxy.errors import KubernetesError
from drainproxy.kube.client import MAX_ANSWER_BYTES, connect
from drainproxy.kube.settings import KubeSettings
from drainproxy.metrics import Metrics
from tests.kube.premises import premises
from tests.kube.server import Feed, bookmark, drop, fail, feed, hang, other, page, say, slice_of, text
from tests.support import clock
from tests.support.clock import over_sockets

PATH = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"


async def listed(api, **query: str):
    """List; return the items and the metadata."""
    items: list = []
    metadata = await api.list(PATH, query, items.append)
    return items, metadata


@over_sockets
async def test_a_list_is_asked_for_with_the_pods_own_token(authority, credentials, monkeypatch):
    """The way in is that of every pod: environment, token and CA."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [page([slice_of(other())], "77")]
        async with here.connect() as api:
            items, metadata = await listed(api, limit="5", resourceVersion="0")
        assert items == [slice_of(other())]
        assert metadata == {"resourceVersion": "77"}
        (asked,) = here.server.asked
        assert (asked.path, asked.query) == (PATH, {"limit": "5", "resourceVersion": "0"})
        assert asked.fields["Authorization"] == "Bearer token-1"
        assert asked.fields["User-Agent"].startswith("drainproxy/")
        assert here.requests() == {("read", "ok"): 1}
        assert here.metrics.kubernetes_api_up.value() == 1


@over_sockets
async def test_a_token_that_was_renewed_is_read_again(authority, credentials, monkeypatch):
    """The kubelet replaces the file; a long session goes on with the new one."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [page([])]
        async with here.connect() as api:
            await listed(api)
            here.server.tokens = {"token-2"}
            (credentials / "token").write_text("token-2\n")
            await listed(api)
        assert [asked.fields["Authorization"] for asked in here.server.asked] == [
            "Bearer token-1",
            "Bearer token-2",
        ]


@over_sockets
async def test_a_token_renewed_between_reading_and_asking_is_tried_once_more(
    authority, credentials, monkeypatch
):
    """A 401 with a newer token in the file is worth a second question, and no third."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.tokens = {"token-3"}
        async with here.connect() as api:
            answer = here.server._answer

            async def renewing(request):
                (credentials / "token").write_text("token-2")
                return await answer(request)

            here.server._runner.server.request_handler = renewing
            with pytest.raises(KubernetesError) as caught:
                await listed(api)
        assert caught.value.reason == "denied"
        assert [asked.fields["Authorization"] for asked in here.server.asked] == [
            "Bearer token-1",
            "Bearer token-2",
        ]


@over_sockets
async def test_a_token_that_is_refused_is_not_tried_again(authority, credentials, monkeypatch):
    """The same token would get the same answer."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.tokens = set()
        async with here.connect() as api:
            with pytest.raises(KubernetesError) as caught:
                await listed(api)
        assert caught.value.reason == "denied"
        assert len(here.server.asked) == 1


ANSWERS = {
    "401": (fail(401), "denied"),
    "403": (fail(403, "endpointslices is forbidden"), "denied"),
    "404": (fail(404), "absent"),
    "410": (fail(410), "gone"),
    "429": (fail(429), "throttled"),
    "500": (fail(500), "error"),
    "HTML": (text("<html>Welcome</html>"), "malformed"),
    "nothing": (text(""), "malformed"),
    "an array": (say([]), "malformed"),
    "no metadata": (say({"items": []}), "malformed"),
    "silence": (hang, "timeout"),
}


@pytest.mark.parametrize(("answer", "reason"), ANSWERS.values(), ids=ANSWERS.keys())
@over_sockets
async def test_what_is_no_list_is_an_error_of_one_kind(answer, reason, authority, credentials, monkeypatch):
    """The rest of the room sees one type, and a word for what to do next."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [answer]
        async with here.connect() as api:
            with pytest.raises(KubernetesError) as caught:
                await listed(api)
        assert caught.value.reason == reason
        result = "denied" if reason == "denied" else "failed"
        assert here.requests() == {("read", result): 1}
        assert here.metrics.kubernetes_api_up.value() == float(reason in {"absent", "gone"})


@over_sockets
async def test_silence_is_given_up_after_five_seconds(authority, credentials, monkeypatch):
    """Every request has a deadline."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [hang]
        async with here.connect() as api:
            began = clock.now()
            with pytest.raises(KubernetesError):
                await listed(api)
        assert 4.9 <= clock.now() - began <= 6.1


@over_sockets
async def test_what_a_refusal_says_is_kept_and_bounded(authority, credentials, monkeypatch):
    """The message names the missing permission; a page of it would fill the log."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [fail(403, "cannot list resource " + "x" * 5000, Retry_After="7")]
        async with here.connect() as api:
            with pytest.raises(KubernetesError) as caught:
                await listed(api)
        assert str(caught.value).startswith("403: cannot list resource x")
        assert len(str(caught.value)) < 250
        assert caught.value.retry_after_s == 7


async def watched(here, *, for_s: float = 30.0):
    """Watch once; return what was said and the error, if any."""
    heard: list = []
    async with here.connect() as api:
        try:
            await api.watch(PATH, {"resourceVersion": "5"}, for_s, lambda *event: heard.append(event))
        except KubernetesError as error:
            return heard, error
    return heard, None


@over_sockets
async def test_a_watch_is_asked_to_end_in_time(authority, credentials, monkeypatch):
    """The server closes it, so that nothing is left standing if we are killed."""
    async with premises(authority, credentials, monkeypatch) as here:
        feed = Feed(("ADDED", slice_of()), ("BOOKMARK", bookmark(12)))
        feed.end()
        here.server.script["watch"] = [feed]
        heard, error = await watched(here, for_s=12.3)
        assert error is None
        assert heard == [("ADDED", slice_of()), ("BOOKMARK", bookmark(12))]
        assert here.server.asked[0].query == {
            "resourceVersion": "5",
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": "12",
        }
        assert here.requests() == {("watch", "ok"): 1}


@over_sockets
async def test_a_watch_that_the_server_forgets_is_ended_by_us(authority, credentials, monkeypatch):
    """A connection whose other end is gone says nothing, for ever."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["watch"] = [Feed()]
        began = clock.now()
        heard, error = await watched(here, for_s=10)
        assert heard == []
        assert error is not None
        assert error.reason == "timeout"
        assert 10 <= clock.now() - began <= 14


WATCHES = {
    "403": (fail(403), "denied"),
    "410": (fail(410), "gone"),
    "410 as an event": (feed(("ERROR", {"kind": "Status", "code": 410, "message": "too old"})), "gone"),
    "500 as an event": (feed(("ERROR", {"kind": "Status", "code": 500})), "error"),
    "HTML": (text("<html>\n</html>"), "malformed"),
    "half an event": (feed(("", b'{"type":"ADDED","obj')), "malformed"),
    "no object": (feed(("", b'{"type":"ADDED"}')), "malformed"),
    "an array": (feed(("", b"[]")), "malformed"),
}


@pytest.mark.parametrize(("answer", "reason"), WATCHES.values(), ids=WATCHES.keys())
@over_sockets
async def test_a_watch_that_fails_says_how(answer, reason, authority, credentials, monkeypatch):
    """The library does not look at the status of a watch; the reason decides what comes next."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["watch"] = [answer]
        _, error = await watched(here)
        assert error is not None
        assert error.reason == reason


async def test_a_connection_that_breaks_is_unreachable_or_malformed(authority, credentials, monkeypatch):
    """Before an answer or in the middle of it; in real time, since a kernel may be slow to say so."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script |= {"list": [drop], "watch": [Feed(("ADDED", slice_of()), ("drop", None))]}
        async with here.connect() as api:
            with pytest.raises(KubernetesError) as caught:
                await listed(api)
        assert caught.value.reason == "unreachable"
        heard, error = await watched(here)
        assert heard == [("ADDED", slice_of())]
        assert error is not None
        assert error.reason == "malformed"


async def test_what_is_nested_deeply_is_refused(authority, credentials, monkeypatch):
    """A parser that gives up is an answer that makes no sense, whatever was asked."""
    deep = b'{"type":"ADDED","object":' + b"[" * 100_000
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script |= {"watch": [feed(("", deep))], "pod": [text("[" * 100_000, "application/json")]}
        _, error = await watched(here)
        assert error is not None
        assert error.reason == "malformed"
        async with here.connect() as api:
            with pytest.raises(KubernetesError) as caught:
                await api.get("/api/v1/namespaces/shop/pods/p", dict)
        assert caught.value.reason == "malformed"


async def test_an_event_without_an_end_is_refused(authority, credentials, monkeypatch):
    """So is a line that only grows."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["watch"] = [Feed(("", b"x" * (6 * 1024 * 1024)))]
        _, error = await watched(here)
        assert error is not None
        assert error.reason == "malformed"
        assert len(str(error)) <= 200


async def test_an_object_that_is_too_large_is_refused(authority, credentials, monkeypatch):
    """What is held in memory is bounded, whoever answers."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["pod"] = [text('"' + "x" * (MAX_ANSWER_BYTES + 10) + '"', "application/json")]
        async with here.connect() as api:
            with pytest.raises(KubernetesError) as caught:
                await api.get("/api/v1/namespaces/shop/pods/p", lambda thing: thing)
        assert caught.value.reason == "malformed"


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
async def test_without_credentials_there_is_no_way(missing, credentials, monkeypatch):
    """A pod without a mounted token says so, and goes on."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    (credentials / missing).unlink()
    with pytest.raises(KubernetesError, match="no way to the cluster"):
        async with connect(KubeSettings(kubernetes_credentials=str(credentials)), Metrics()):
            raise AssertionError


async def test_outside_a_cluster_there_is_no_way(credentials, monkeypatch):
    """No environment, no cluster."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubernetesError, match="not set"):
        async with connect(KubeSettings(kubernetes_credentials=str(credentials)), Metrics()):
            raise AssertionError


async def test_a_port_where_nobody_listens_is_unreachable(credentials, monkeypatch):
    """Refused at once."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(nobody.getsockname()[1]))
        async with connect(KubeSettings(kubernetes_credentials=str(credentials)), Metrics()) as api:
            with pytest.raises(KubernetesError) as caught:
                await listed(api)
        assert caught.value.reason == "unreachable"


@over_sockets
async def test_a_black_hole_is_given_up_after_a_second_or_so(credentials, monkeypatch):
    """A NetworkPolicy that denies egress drops packets: a full backlog does the same."""
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        address = hole.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address[1]))
        began = clock.now()
        async with connect(KubeSettings(kubernetes_credentials=str(credentials)), Metrics()) as api:
            with pytest.raises(KubernetesError) as caught:
                await listed(api)
        for filler in fillers:
            filler.close()
        assert caught.value.reason == "timeout"
        assert 0.9 <= clock.now() - began <= 2.0


@over_sockets
async def test_a_server_with_another_certificate_is_not_believed(
    authority, credentials, monkeypatch, tmp_path
):
    """Whoever answers must be the cluster."""
    async with premises(authority, credentials, monkeypatch) as here:
        (tmp_path / "other").mkdir()
        stranger = type(authority)(tmp_path / "other")
        (credentials / "ca.crt").write_bytes(stranger.file.read_bytes())
        async with here.connect() as api:
            with pytest.raises(KubernetesError) as caught:
                await listed(api)
        assert caught.value.reason == "unreachable"
        assert here.server.asked == []


@over_sockets
async def test_a_list_that_comes_compressed_is_read_as_it_comes(authority, credentials, monkeypatch):
    """API servers compress what is larger than 128 KB."""
    async with premises(authority, credentials, monkeypatch) as here:

        async def compressed(request):
            answer = await page([slice_of(other(number), name=f"s-{number}") for number in range(50)])(
                request
            )
            answer.enable_compression()
            return answer

        here.server.script["list"] = [compressed]
        async with here.connect() as api:
            items, _ = await listed(api)
        assert [item["metadata"]["name"] for item in items] == [f"s-{number}" for number in range(50)]
        assert "gzip" in here.server.asked[0].fields["Accept-Encoding"]


@pytest.mark.parametrize("bypass", [False, True])
async def test_the_pods_own_proxy_variables_are_kept(bypass, authority, credentials, monkeypatch):
    """Where a cluster is reached through a proxy, its pods are told so by their environment."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [page([])]
        asked: list[bytes] = []

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readline())
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
            port = proxy.sockets[0].getsockname()[1]
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "127.0.0.1" if bypass else "")
            async with here.connect() as api:
                if bypass:
                    assert (await listed(api))[0] == []
                    assert asked == []
                else:
                    with pytest.raises(KubernetesError) as caught:
                        await listed(api)
                    assert caught.value.reason == "unreachable"
                    assert asked == [b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % here.server.port]


@over_sockets
async def test_a_kubeconfig_leads_to_the_cluster_too(authority, credentials, monkeypatch):
    """For development, with what kubectl uses."""
    async with premises(authority, credentials, monkeypatch) as here:
        here.server.script["list"] = [page([])]
        file = credentials / "kubeconfig"
        file.write_text(
            f"""
            apiVersion: v1
            kind: Config
            current-context: here
            contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
            clusters:
            - name: here
              cluster:
                server: https://127.0.0.1:{here.server.port}
                certificate-authority: {authority.file}
            users: [{{name: me, user: {{token: token-1}}}}]
            """
        )
        async with connect(replace(here.settings, kubeconfig=str(file)), here.metrics) as api:
            assert (await listed(api))[0] == []


async def test_a_kubeconfig_that_is_not_there_is_no_way(tmp_path):
    """Said, and gone on without."""
    with pytest.raises(KubernetesError, match="no way to the cluster"):
        async with connect(KubeSettings(kubeconfig=str(tmp_path / "none")), Metrics()):
            raise AssertionError


SCRIPT = """
import sys
from drainproxy.kube import access
before = set(sys.modules)
access._load("client.configuration")
access._load("config.kube_config")
models = [name for name in sys.modules if name.startswith("kubernetes_asyncio.client.models")]
print(len(models), sum(name.startswith("kubernetes_asyncio") for name in sys.modules))
"""


def test_none_of_the_768_models_is_loaded():
    """They would cost 37 MB wherever a kubeconfig is read."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    models, modules = map(int, done.stdout.split())
    assert models == 0
    assert modules < 15
