"""HTTP/2 with programs that others have written: curl before us, nghttpd behind us, also over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from tests.integration.test_tls import run
from tests.support.authority import Authority
from tests.support.http2 import DATA, END_STREAM, GOAWAY, HEADERS, PING, Http2, frame
from tests.support.upstream import Upstream
from tests.support.wire import Ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NGHTTPD = shutil.which("nghttpd", path="/usr/sbin:/usr/bin:/usr/local/bin")
pytestmark = pytest.mark.skipif(NGHTTPD is None, reason="needs nghttpd (Debian: nghttp2-server)")


@contextlib.asynccontextmanager
async def nghttpd(directory: Path, *arguments: str) -> AsyncIterator[int]:
    """Serve the file `f` over HTTP/2 from a port of its own."""
    (directory / "f").write_text("from nghttpd")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = ["-a", "127.0.0.1", "-d", str(directory), str(port), *arguments]
    child = await asyncio.create_subprocess_exec(str(NGHTTPD), *where, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)  # another process: nothing else tells
        yield port
    finally:
        child.terminate()
        await child.wait()


async def test_curl_reaches_nghttpd_in_the_clear(start, tmp_path):
    """With prior knowledge; one request, since curl 7.88 cannot use such a connection a second time."""
    async with nghttpd(tmp_path, "--no-tls") as port:
        proxy = await start(f"http://127.0.0.1:{port}")
        url = f"http://127.0.0.1:{proxy.addresses[0][1]}/f"
        code, said = await run("curl", "-sSv", "--http2-prior-knowledge", url)
        assert code == 0, said
        assert "HTTP/2 200" in said
        assert "from nghttpd" in said


@pytest.mark.parametrize("offered", ["on", "auto"])
async def test_over_tls_http2_is_offered_only_where_the_application_is_known_to_speak_it(
    start, tmp_path, offered
):
    """Offered, curl takes it, and the application is asked for it; else curl speaks HTTP/1.1."""
    authority = Authority(tmp_path)
    certificate, key = (str(path) for path in authority.issue())
    async with nghttpd(tmp_path, key, certificate) as port:
        proxy = await start(
            f"https://localhost:{port}",
            listen="https://127.0.0.1:0",
            tls_certificate=certificate,
            tls_key=key,
            upstream_ca=str(authority.file),
            upstream_http2=offered,
        )
        url = f"https://localhost:{proxy.addresses[0][1]}/f"
        code, said = await run("curl", "-sSv", "--cacert", str(authority.file), url)
        if offered == "auto":
            assert "ALPN: server accepted http/1.1" in said
            return
        assert code == 0, said
        assert "ALPN: server accepted h2" in said
        assert "HTTP/2 200" in said
        assert "from nghttpd" in said
        proxy.signal()
        assert await proxy.exit_code() == 0


async def spoken_to(upstream: Upstream) -> Http2:
    """The application's end of the first connection that is no probe."""
    while True:
        application = Http2(await upstream.connection())
        with contextlib.suppress(Ended):
            await application.greet()
            return application


async def test_nghttp_gets_its_answer_when_the_application_and_the_drain_both_say_goaway(start):
    """It ends a connection on which the last stream of a GOAWAY rises (RFC 9113 section 6.8)."""
    async with Upstream() as upstream:
        proxy = await start(upstream.address)
        asking = asyncio.create_task(run("nghttp", f"http://127.0.0.1:{proxy.addresses[0][1]}/f"))
        application = await spoken_to(upstream)
        stream = (await application.next(HEADERS)).stream
        await application.send(frame(GOAWAY, 0, 0, struct.pack(">II", stream, 0)))
        proxy.signal()
        await proxy.line("phase", phase="draining")
        await application.send(frame(PING, 0, 0, b"heard it"))
        await application.next(PING, ack=True)
        await application.send(application.response(stream), frame(DATA, END_STREAM, stream, b"whole"))
        code, said = await asking
        assert (code, said) == (0, "whole")
        assert await proxy.exit_code() == 0
        report = await proxy.line("drain_report")
        assert report["requests"]["finished"] == 1
