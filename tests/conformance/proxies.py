"""Proxies under test as real processes: drainproxy, nginx and HAProxy behind one interface.

One process has one listener per lane, each in front of its own application port.
nginx and HAProxy are here to test the runner against proxies that are known.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Protocol

from tests.conformance.process import Process, free_ports, http_get, wait_listening, with_free_ports


class Proxy(Protocol):
    """What the runner needs of a proxy; `fronts` are its ports in the order of `upstreams`."""

    name: str
    fronts: list[int]

    async def start(self, upstreams: list[int]) -> None:
        """Start it; raise RuntimeError if it does not come up."""

    async def stop(self) -> str:
        """End it; give what was wrong with its end, or nothing."""

    @property
    def pid(self) -> int | None:
        """The process to measure, None where there is none of its own."""

    def died(self) -> str:
        """Give how it died, or nothing while it lives."""

    async def in_flight(self) -> int | None:
        """How much work it says it has, None if it cannot tell."""


class Drainproxy(Process):
    """The project's own, as `python -m drainproxy run`."""

    name = "drainproxy"

    def __init__(self, arguments: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.fronts: list[int] = []
        self._admin = 0
        self._arguments = arguments

    async def start(self, upstreams: list[int]) -> None:
        """Start it on ports that the kernel picks and read them from its `listening` lines."""
        argv = [sys.executable, "-m", "drainproxy", "run", "--propagation", "none"]
        for upstream in upstreams:
            argv += ["--listen", "127.0.0.1:0", "--upstream", f"http://127.0.0.1:{upstream}"]
        argv += ["--admin", "127.0.0.1:0", "--response-head-timeout", "1s", "--upstream-http2", "off"]
        argv += ["--access-log", "off", "--log-format", "json", "--final-scrape-wait", "0s"]
        self._socket = tempfile.mkdtemp(prefix="conformance-")
        argv += ["--control-socket", f"{self._socket}/control.sock", *self._arguments]
        await self.spawn(*argv)
        for event in await self.said_listening(len(upstreams) + 1):
            port = int(event["address"].rsplit(":", 1)[1])
            if event["listener"] == "admin":
                self._admin = port
            else:
                self.fronts.append(port)

    async def stop(self) -> str:
        """End it by SIGTERM; it owes exit code 0."""
        died = self.died()
        code = await self.end()
        shutil.rmtree(self._socket, ignore_errors=True)
        return died or ("" if code == 0 else f"SIGTERM ended it with {code}: {self.tail}")

    async def in_flight(self) -> int | None:
        """Sum `drainproxy_requests_in_flight` over its kinds."""
        text = await http_get(self._admin, "/metrics")
        found = [
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("drainproxy_requests_in_flight")
        ]
        return int(sum(found)) if found else None


class Nginx(Process):
    """Debian's nginx as one process, set to forward what it gets."""

    name = "nginx"

    def __init__(self) -> None:
        super().__init__()
        self.fronts: list[int] = []
        self._dir = Path()

    async def start(self, upstreams: list[int]) -> None:
        """Write a configuration and start it."""
        await with_free_ports(lambda: self._start(upstreams))

    async def _start(self, upstreams: list[int]) -> None:
        self.fronts = free_ports(len(upstreams))
        self._dir = Path(tempfile.mkdtemp(prefix="conformance-"))
        blocks = "".join(
            f"upstream u{front} {{ server 127.0.0.1:{upstream} max_fails=0; keepalive 4; }}\n"
            f"server {{ listen 127.0.0.1:{front}; location / {{ proxy_pass http://u{front}; }} }}\n"
            for front, upstream in zip(self.fronts, upstreams, strict=True)
        )
        config = NGINX_HEAD.format(dir=self._dir) + blocks + "}\n"
        (self._dir / "nginx.conf").write_text(config)
        await self.spawn("nginx", "-p", f"{self._dir}/", "-c", "nginx.conf", "-e", "stderr")
        await wait_listening(self, self.fronts)

    async def stop(self) -> str:
        """End it."""
        died = self.died()
        await self.end()
        shutil.rmtree(self._dir, ignore_errors=True)
        return died

    async def in_flight(self) -> int | None:
        """It does not say."""
        return None


class Haproxy(Process):
    """Debian's HAProxy in the foreground."""

    name = "haproxy"

    def __init__(self) -> None:
        super().__init__()
        self.fronts: list[int] = []
        self._dir = Path()

    async def start(self, upstreams: list[int]) -> None:
        """Write a configuration and start it."""
        await with_free_ports(lambda: self._start(upstreams))

    async def _start(self, upstreams: list[int]) -> None:
        self.fronts = free_ports(len(upstreams))
        self._dir = Path(tempfile.mkdtemp(prefix="conformance-"))
        blocks = "".join(
            f"listen l{front}\n  bind 127.0.0.1:{front}\n  server s 127.0.0.1:{upstream}\n"
            for front, upstream in zip(self.fronts, upstreams, strict=True)
        )
        (self._dir / "haproxy.cfg").write_text(HAPROXY_HEAD + blocks)
        await self.spawn("haproxy", "-db", "-q", "-f", str(self._dir / "haproxy.cfg"))
        await wait_listening(self, self.fronts)

    async def stop(self) -> str:
        """End it."""
        died = self.died()
        await self.end()
        shutil.rmtree(self._dir, ignore_errors=True)
        return died

    async def in_flight(self) -> int | None:
        """It does not say."""
        return None


KINDS: dict[str, type[Drainproxy] | type[Nginx] | type[Haproxy]] = {
    kind.name: kind for kind in (Drainproxy, Nginx, Haproxy)
}

NGINX_HEAD = """daemon off; master_process off; pid nginx.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{
access_log off; client_max_body_size 0; underscores_in_headers on; keepalive_requests 100000;
client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
proxy_request_buffering off; proxy_read_timeout 1s; proxy_pass_header Server; proxy_pass_header Date;
"""

HAPROXY_HEAD = """defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 1s
  http-reuse always
"""
