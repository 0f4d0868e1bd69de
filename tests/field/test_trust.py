"""Real servers trust their neighbours: what they believe of a caller's fields, behind drainproxy.

The caller is a stranger who says that it is 203.0.113.9 and came over https.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.command import environment
from tests.support.process import Proxy
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        said = f"{scope['client'][0]} {scope['scheme']}".encode()
        fields = [(b"content-length", str(len(said)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": said})
"""
WSGI = """
def app(environ, start_response):
    said = f"{environ['REMOTE_ADDR']} {environ['wsgi.url_scheme']}".encode()
    start_response("200 OK", [("Content-Length", str(len(said)))])
    return [said]
"""
FLASK = """
from flask import Flask, request
app = Flask(__name__)
app.get("/")(lambda: f"{request.remote_addr} {request.scheme}")
"""
DJANGO = """
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.template.context_processors import debug
from django.urls import path

def shown(request):
    inside = "debug" in debug(request)
    return HttpResponse(f"{request.META['REMOTE_ADDR']} {request.scheme}" + " debug" * inside)

settings.configure(DEBUG=True, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x",
                   INTERNAL_IPS=["127.0.0.1"])
urlpatterns = [path("", shown)]
app = WSGIHandler()
"""
UVICORN = ("-m", "uvicorn", "app:app", "--port")
GUNICORN = ("-m", "gunicorn", "app:app", "--bind")
SERVERS = {
    "uvicorn": (UVICORN, ASGI, ("uvicorn",)),
    "gunicorn": (GUNICORN, WSGI, ("gunicorn",)),
    "Flask": (GUNICORN, FLASK, ("gunicorn", "flask")),
    "Django": (GUNICORN, DJANGO, ("gunicorn", "django")),
}
CLAIM = b"GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\r\n"

CASES = [
    ("uvicorn", {}, {}, "127.0.0.6 http"),
    ("uvicorn", {"upstream_source": "127.0.0.1"}, {}, "203.0.113.9 https"),
    ("uvicorn", {}, {"FORWARDED_ALLOW_IPS": "127.0.0.6"}, "203.0.113.9 https"),
    ("gunicorn", {}, {}, "127.0.0.6 http"),
    ("gunicorn", {"upstream_source": "127.0.0.1"}, {}, "127.0.0.1 https"),
    ("gunicorn", {}, {"FORWARDED_ALLOW_IPS": "127.0.0.6"}, "127.0.0.6 https"),
    ("Flask", {}, {}, "127.0.0.6 http"),
    ("Flask", {"upstream_source": "127.0.0.1"}, {}, "127.0.0.1 https"),
    ("Django", {}, {}, "127.0.0.6 http"),
    ("Django", {"upstream_source": "127.0.0.1"}, {}, "127.0.0.1 https debug"),
]
"""Server, settings of ours, its environment, and what it says of the caller."""


@contextlib.asynccontextmanager
async def serving(name: str, directory: Path, **env: str) -> AsyncIterator[str]:
    """Start a server; yield where it is."""
    command, application, modules = SERVERS[name]
    if missing := [each for each in modules if importlib.util.find_spec(each) is None]:
        pytest.skip(f"not here: {', '.join(missing)}; make .venv/group-field")
    (directory / "app.py").write_text(application)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = port if command is UVICORN else f"127.0.0.1:{port}"
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, place),
        cwd=directory,
        env=environment(**env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await child.wait()


@pytest.mark.parametrize(("name", "settings", "env", "shown"), CASES)
async def test_a_stranger_is_believed_no_more_than_without_us(name, settings, env, shown, tmp_path: Path):
    """A server that trusts 127.0.0.1 trusts the pod's own processes, and not whoever comes through here."""
    async with serving(name, tmp_path, **env) as upstream, Proxy(upstreams=[upstream], **settings) as proxy:
        await proxy.ready()
        client = await proxy.client()
        assert (await client.ask(CLAIM)).body.decode() == shown
