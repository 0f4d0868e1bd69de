"""The application behind every proxy: nginx with a 40-byte answer, a 1 MiB file and a count of answers.

The count is what catches a proxy that answers from somewhere else.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.client import fetch, wait_for_200
from bench.processes import BenchError, Program, find_program, free_port, nginx_user, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL_BODY = b"0123456789abcdefghijklmnopqrstuvwxyzABCD"
LARGE_BODY = bytes(range(256)) * 4096
SMALL, LARGE = "/small", "/large.bin"

_CONFIG = """
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 4096;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  keepalive_timeout 900s;
  keepalive_requests 1000000000;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /small {{ return 200 "{body}"; }}
    location = /count {{ stub_status; }}
    location / {{ root {directory}/files; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Application:
    """The running application."""

    program: Program
    port: int

    def served(self) -> int:
        """Requests it has answered since it started, this question included."""
        status, body = fetch(self.port, "/count")
        if status != 200:
            raise BenchError(f"The application's counter answered {status}.")
        # The third line of stub_status: accepts, handled, requests.
        return int(body.decode("ascii").splitlines()[2].split()[2])


@contextmanager
def application(directory: Path, *, core: int) -> Iterator[Application]:
    """Run it for as long as the block lasts."""
    binary = find_program("nginx")
    if binary is None:
        raise BenchError("nginx is not installed, and it is the application too (Debian: nginx-light).")
    (directory / "files").mkdir(parents=True)
    (directory / "files" / LARGE.lstrip("/")).write_bytes(LARGE_BODY)
    port = free_port()
    config = directory / "nginx.conf"
    body = SMALL_BODY.decode("ascii")
    text = _CONFIG.format(user=nginx_user(), directory=directory, port=port, body=body)
    config.write_text(text, encoding="utf-8")
    command = [binary, "-p", str(directory), "-c", str(config), "-e", "stderr"]
    with running(command, core=core, directory=directory) as program:
        wait_for_200(program, port, SMALL)
        yield Application(program, port)
