"""The servers: how each is started with five workers, and what it needs to be here.

Every one answers a GET with `hello` after 30 ms, asleep: a query to a database, and no use of a core.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WORKERS = 5
SERVICE_S = 0.03

WSGI = f"""\
import time

def app(environ, start_response):
    time.sleep({SERVICE_S})
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]
"""
ASGI = f"""\
import asyncio

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await asyncio.sleep({SERVICE_S})
    await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}})
    await send({{"type": "http.response.body", "body": b"hello"}})
"""
AIOHTTP = f"""\
import asyncio, sys
from aiohttp import web

async def hello(request):
    await asyncio.sleep({SERVICE_S})
    return web.Response(text="hello")

app = web.Application()
app.router.add_get("/", hello)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
"""
TORNADO = f"""\
import asyncio, sys
import tornado.web

class Hello(tornado.web.RequestHandler):
    async def get(self):
        await asyncio.sleep({SERVICE_S})
        self.write("hello")

async def main():
    tornado.web.Application([("/", Hello)], log_function=lambda _: None).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""
NODE = f"""\
require('http').createServer((request, response) =>
  setTimeout(() => response.end('hello'), {SERVICE_S * 1000:.0f})).listen(+process.argv[2], '127.0.0.1')
"""
RACK = f"run lambda {{ |env| sleep {SERVICE_S}; [200, {{'Content-Type' => 'text/plain'}}, ['hello']] }}\n"
WEBRICK = f"""\
require 'webrick'
server = WEBrick::HTTPServer.new(Port: ARGV[0].to_i, BindAddress: '127.0.0.1', MaxClients: {WORKERS},
                                 AccessLog: [], Logger: WEBrick::Log.new(File::NULL))
server.mount_proc('/') {{ |request, response| sleep {SERVICE_S}; response.body = 'hello' }}
trap('TERM') {{ server.shutdown }}
server.start
"""
PSGI = f"""\
sub {{ select(undef, undef, undef, {SERVICE_S});
  return [200, ['Content-Type', 'text/plain', 'Content-Length', '5'], ['hello']] }};
"""
PHP = f"<?php usleep({SERVICE_S * 1e6:.0f}); echo 'hello';\n"
MODULES = "/usr/lib/apache2/modules"
GEM = "/usr/share/rubygems-integration/all/gems/webrick-*"
APACHE = """\
ServerRoot {directory}
Mutex file:{directory} default
PidFile {directory}/apache.pid
ErrorLog {directory}/apache.err
ServerName localhost
Listen 127.0.0.1:{port}
LoadModule mpm_prefork_module {modules}/mod_mpm_prefork.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule php_module {php}
{user}
StartServers {workers}
MinSpareServers {workers}
MaxSpareServers {workers}
ServerLimit {workers}
MaxRequestWorkers {workers}
KeepAlive On
KeepAliveTimeout 5
DocumentRoot {directory}/www
DirectoryIndex index.php
<FilesMatch \\.php$>
  SetHandler application/x-httpd-php
</FilesMatch>
<Directory {directory}/www>
  Require all granted
</Directory>
"""
LIGHTTPD = """\
server.document-root = "{directory}/www"
server.bind = "127.0.0.1"
server.port = {port}
index-file.names = ("index.html")
"""


@dataclass(frozen=True)
class Server:
    """One stack. `command` gets its directory and its port."""

    name: str
    command: Callable[[Path, int], list[str]]
    needs: tuple[str, ...] = ()
    """Programs, files and, with `python:` before them, modules."""
    files: dict[str, str] = field(default_factory=dict)
    loop: bool = False
    """An event loop: it has no workers that a connection could hold, and keeps its pool."""
    env: dict[str, str] = field(default_factory=dict)

    def missing(self) -> str:
        """Return what of its needs is not here; empty where nothing is."""
        return ", ".join(need for need in self.needs if not _is_here(need))

    def prepare(self, directory: Path, port: int) -> list[str]:
        """Write its files; return its command."""
        directory.chmod(0o755)  # Apache's workers are somebody else
        for name, text in self.files.items():
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return self.command(directory, port)


def _is_here(need: str) -> bool:
    if need.startswith("python:"):
        return importlib.util.find_spec(need.removeprefix("python:")) is not None
    return shutil.which(need) is not None or any(Path("/").glob(need.removeprefix("/")))


def _python(module: str, *arguments: str) -> Callable[[Path, int], list[str]]:
    def command(directory: Path, port: int) -> list[str]:
        return [sys.executable, "-m", module, *(each.format(port=port) for each in arguments)]

    return command


def _apache(directory: Path, port: int) -> list[str]:
    user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
    values = {"modules": MODULES, "php": _php_module(), "user": user, "workers": WORKERS}
    (directory / "apache.conf").write_text(APACHE.format(directory=directory, port=port, **values))
    return ["apache2", "-f", str(directory / "apache.conf"), "-DFOREGROUND"]


def _php_module() -> str:
    return str(next(Path(MODULES).glob("libphp*.so"), Path(MODULES, "libphp.so")))


def _lighttpd(directory: Path, port: int) -> list[str]:
    (directory / "lighttpd.conf").write_text(LIGHTTPD.format(directory=directory, port=port))
    return ["lighttpd", "-D", "-f", str(directory / "lighttpd.conf")]


def _script(program: str, name: str) -> Callable[[Path, int], list[str]]:
    return lambda directory, port: [program, str(directory / name), str(port)]


def servers() -> list[Server]:
    """Return every server: first those with workers, then event loops."""
    threads, bind = str(WORKERS), "127.0.0.1:{port}"
    wsgi, asgi = {"wsgi.py": WSGI}, {"asgi.py": ASGI}
    sync = _python("gunicorn", "-w", threads, "-b", bind, "wsgi:app")
    gthread = _python("gunicorn", "-k", "gthread", "--threads", threads, "-b", bind, "wsgi:app")
    waitress = _python("waitress", "--listen=127.0.0.1:{port}", f"--threads={threads}", "wsgi:app")
    uvicorn = _python("uvicorn", "--no-access-log", "--port", "{port}", "asgi:app")
    hypercorn = _python("hypercorn", "-b", bind, "asgi:app")
    granian = _python("granian", "--interface", "asgi", "--port", "{port}", "--no-access-log", "asgi:app")
    web = _script(sys.executable, "web.py")
    return [
        Server(
            "Puma, 5 threads",
            lambda directory, port: [
                *("puma", "-q", "-t", f"{WORKERS}:{WORKERS}", "-b", f"tcp://127.0.0.1:{port}"),
                str(directory / "app.ru"),
            ],
            ("puma",),
            {"app.ru": RACK},
        ),
        Server(
            "Apache prefork, 5 processes, mod_php",
            _apache,
            ("apache2", f"{MODULES}/mod_mpm_prefork.so", _php_module()),
            {"www/index.php": PHP},
        ),
        Server(
            "Starman, 5 processes",
            lambda directory, port: [
                *("starman", "--listen", f"127.0.0.1:{port}", "--workers", str(WORKERS)),
                str(directory / "app.psgi"),
            ],
            ("starman",),
            {"app.psgi": PSGI},
        ),
        Server("WEBrick, 5 threads", _script("ruby", "web.rb"), ("ruby", GEM), {"web.rb": WEBRICK}),
        Server("gunicorn sync, 5 processes", sync, ("python:gunicorn",), wsgi),
        Server("gunicorn gthread, 5 threads", gthread, ("python:gunicorn",), wsgi),
        Server("waitress, 5 threads", waitress, ("python:waitress",), wsgi),
        Server(
            "php -S, 5 processes",
            lambda directory, port: ["php", "-S", f"127.0.0.1:{port}", "-t", str(directory / "www")],
            ("php",),
            {"www/index.php": PHP},
            env={"PHP_CLI_SERVER_WORKERS": str(WORKERS)},
        ),
        Server("uvicorn", uvicorn, ("python:uvicorn",), asgi, loop=True),
        Server("hypercorn", hypercorn, ("python:hypercorn",), asgi, loop=True),
        Server("granian", granian, ("python:granian",), asgi, loop=True),
        Server("aiohttp", web, ("python:aiohttp",), {"web.py": AIOHTTP}, loop=True),
        Server("tornado", web, ("python:tornado",), {"web.py": TORNADO}, loop=True),
        Server("Node http", _script("node", "web.js"), ("node",), {"web.js": NODE}, loop=True),
        Server("lighttpd", _lighttpd, ("lighttpd",), {"www/index.html": "hello"}, loop=True),
    ]
