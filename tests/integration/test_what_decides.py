"""A drain as an operator sees it: /status, `drainproxy status` and the log say the same of what decides."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import socket
import struct
import sys
import termios
from typing import Any

from tests.admin.test_status_view import row
from tests.integration.application import Application
from tests.integration.scene import command, held
from tests.kube.cluster import SHORT, pod
from tests.support.command import environment
from tests.support.process import Proxy
from tests.support.upstream import OK
from tests.support.wire import PATIENCE_S

CONTROL = re.compile(r"\x1b\[\??[0-9;]*[A-Za-z]")

SLOW = {
    "propagation_min": "60s",
    "propagation_margin": "30s",
    "propagation_max": "60s",
    "grace_period": "90s",
}
"""Nothing but the margin, and it lasts longer than anybody looks."""


async def status(it: Any) -> dict[str, Any]:
    """Return the document."""
    code, said = await command(it.proxy, "status", "--json", "--admin", "{}:{}".format(*it.proxy.admin))
    assert code == 0, said
    document: dict[str, Any] = json.loads(said)
    return document


async def test_each_view_of_a_drain_names_the_margin(tmp_path):
    """The cluster has flipped every row, another pod is ready: `margin` is what is waited for."""
    async with pod(tmp_path, **SLOW) as it:
        await it.looked()
        before = await status(it)
        assert (before["waits"], before["cluster"]["rows_flipped"]) == ([], 0)
        it.proxy.signal()
        await it.proxy.line("drain_plan")
        it.member.flip()
        line = await it.proxy.line("waits", rule="margin")
        shown = await status(it)
        first, *others = shown["waits"]
        assert (first["rule"], first["words"], first["of_s"]) == ("margin", line["what"], line["of_s"])
        assert (line["what"], line["of_s"]) == ("margin after the slices flipped", 30.0)
        assert 0.0 <= first["passed_s"] < 30.0
        assert {each["rule"]: each["of_s"] for each in others}["max"] == 60.0
        assert shown["waiting_for"] == first["words"]
        cluster = shown["cluster"]
        assert (cluster["rows"], cluster["rows_flipped"], cluster["other_ready"]) == (1, 1, 1)
        assert (shown["drain"]["young"], shown["verdict"]) == (True, None)
        code, said = await command(it.proxy, "status", "--admin", "{}:{}".format(*it.proxy.admin))
        lines = said.splitlines()
        assert code == 0
        assert row(lines, "waits for").startswith(first["words"])
        assert row(lines, "margin").endswith("of 30.0 s, decides now")
        assert row(lines, "cluster") == "1 of 1 rows flipped; 1 other ready, 1 of them on this node"
        assert lines[1].startswith(f"shop/{it.member.name}")


class Watch:
    """`drainproxy status --watch` on a terminal."""

    def __init__(self, port: int) -> None:
        self._admin = f"127.0.0.1:{port}"
        self._seen = ""
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Watch:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        words = ("-m", "drainproxy", "status", "--watch", "--admin", self._admin)
        env = environment(TERM="xterm-256color")
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, *words, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        asyncio.get_running_loop().add_reader(self._ours, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        if self._child.returncode is None:
            self._child.kill()
            await self._child.wait()

    async def shows(self, text: str) -> None:
        """Return once it has shown `text`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while text not in self._seen:
                    self._changed.clear()
                    await self._changed.wait()
        assert text in self._seen

    async def exit_code(self) -> int:
        """Return its exit code."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._child.wait()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            self._seen += CONTROL.sub("", os.read(self._ours, 65536).decode("utf-8", "replace"))
        self._changed.set()


async def test_watching_begins_before_the_proxy_does_and_ends_with_its_verdict():
    """Whoever watches before there is anything to see sees a drain to its end, and hears that it was good."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    async with Watch(port) as watch, Application() as application:
        await watch.shows(f"waits for a proxy at 127.0.0.1:{port} to come up: Connection refused")
        settings = {**SHORT, "admin": f"127.0.0.1:{port}"}
        async with Proxy(upstreams=[application.address], **settings) as proxy:
            await proxy.ready()
            await watch.shows("nothing: it serves")
            client, connection = await held(proxy, application)
            assert (await command(proxy, "drain"))[0] == 0
            await watch.shows("1 in flight")
            await connection.send(OK)
            assert (await client.final()).body == b"ok"
            # It stays until SIGTERM, however long who watches takes to look.
            await watch.shows("SIGTERM, or undrain")
            proxy.signal()
            assert await proxy.exit_code() == 0
            await watch.shows("drained, everybody was served")
            assert await watch.exit_code() == 0


async def test_a_watch_hears_that_somebody_was_not_served():
    """The deadline cuts a request: the same in words, and 1 as exit code."""
    hasty = {**SHORT, "grace_period": "6s", "app_stop": "1s", "reserve": "3s"}
    async with Application() as application, Proxy(upstreams=[application.address], **hasty) as proxy:
        await proxy.ready()
        async with Watch(proxy.admin[1]) as watch:
            await watch.shows("nothing: it serves")
            await held(proxy, application)
            assert (await command(proxy, "drain"))[0] == 0
            await watch.shows("not everybody was served: 1 timed out")
            proxy.signal()
            await watch.shows("drained, but not everybody was served")
            assert await watch.exit_code() == 1
