"""Try an installed drainproxy: `python release/smoke.py [compiled|pure]`, with the Python it is installed in.

It says which flavour it is, passes on what an application answers, over real sockets of loopback, and ends by
SIGTERM while a request is held: that request has its whole answer, and a drain is reported. cibuildwheel runs
it for each wheel, rehearse.py for the one that is built here. It needs nothing but what is installed.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 60.0
BODY = bytes(range(256)) * 1024


class Failed(Exception):
    """What is installed does not do what it should; says what."""


class Application(BaseHTTPRequestHandler):
    """Answers with what it was sent; holds `/held` until it is let go."""

    protocol_version = "HTTP/1.1"
    entered = threading.Event()
    let_go = threading.Event()

    def do_POST(self) -> None:
        """See BaseHTTPRequestHandler."""
        if self.headers["Transfer-Encoding"] == "chunked":
            sent = b"".join(iter(self._chunk, b""))
        else:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/held":
            self.entered.set()
            self.let_go.wait(PATIENCE_S)
        self.send_response(200)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def _chunk(self) -> bytes:
        size = int(self.rfile.readline(), 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def proxy(port: int) -> Iterator[subprocess.Popen[str]]:
    """Run the command that is installed beside this Python."""
    settings = {
        "DRAINPROXY_LISTEN": "127.0.0.1:0",
        "DRAINPROXY_ADMIN": "127.0.0.1:0",
        "DRAINPROXY_UPSTREAM": f"http://127.0.0.1:{port}",
        "DRAINPROXY_PROPAGATION": "none",
        "DRAINPROXY_RBAC": "none",
        "DRAINPROXY_CONTROL_SOCKET": "off",
        "DRAINPROXY_LOG_FORMAT": "json",
    }
    command = (_command(), "run")
    with subprocess.Popen(
        command, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        # Whatever comes: it does not wait for ever for a process that says nothing.
        watch = threading.Timer(2 * PATIENCE_S, process.kill)
        watch.start()
        try:
            yield process
        finally:
            watch.cancel()
            if process.poll() is None:
                process.kill()


def _command() -> Path:
    return Path(sys.executable).with_name("drainproxy")


def until(process: subprocess.Popen[str], event: str, **fields: str) -> dict[str, object]:
    """Return the line of a log that tells of `event`, and in which no field is as in `fields`."""
    assert process.stdout is not None
    heard = []
    for line in process.stdout:
        heard.append(line)
        said = json.loads(line) if line.startswith("{") else {}
        if said.get("event") == event and all(said[name] != text for name, text in fields.items()):
            return said
    raise Failed(f"no {event} in what it said: {''.join(heard)[-2000:]}")


def answer(connection: http.client.HTTPConnection, path: str, *, chunked: bool = False) -> None:
    """POST a body, and see that it comes back."""
    body = iter([BODY[:1000], BODY[1000:]]) if chunked else BODY
    connection.request("POST", path, body, encode_chunked=chunked)
    response = connection.getresponse()
    back = response.read()
    if response.status != 200 or back != BODY:
        raise Failed(f"{path}: {response.status} with {len(back)} bytes of {len(BODY)}")


def serves(port: int) -> None:
    """Bodies with a length and in chunks on a kept connection; then the end, with a request in flight."""
    with proxy(port) as process:
        listening = until(process, "listening", listener="admin")
        host, _, number = str(listening["address"]).rpartition(":")
        connection = http.client.HTTPConnection(host, int(number), timeout=PATIENCE_S)
        for path, chunked in (("/1", False), ("/2", True), ("/3", False)):
            answer(connection, path, chunked=chunked)
        failures: list[BaseException] = []
        held = threading.Thread(target=_held, args=(connection, failures))
        held.start()
        if not Application.entered.wait(PATIENCE_S):
            raise Failed("the held request has not reached the application")
        process.send_signal(signal.SIGTERM)
        until(process, "phase", phase="serving")
        Application.let_go.set()
        held.join(PATIENCE_S)
        if failures or held.is_alive():
            raise Failed(f"the held request was lost: {failures}")
        until(process, "drain_report")
        if process.wait(PATIENCE_S):
            raise Failed(f"it ended with {process.returncode}")


def _held(connection: http.client.HTTPConnection, failures: list[BaseException]) -> None:
    try:
        answer(connection, "/held")
    except Exception as why:  # whoever waits for this thread tells of it
        failures.append(why)


def main(arguments: list[str]) -> int:
    """Try it; return 1 where it fails."""
    said = subprocess.run([_command(), "version"], capture_output=True, text=True, check=True)
    first = said.stdout.splitlines()[0]
    print(first)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        if said.stderr:
            raise Failed(said.stderr.strip())
        if arguments and f", {arguments[0]}, on Python" not in said.stdout:
            raise Failed(f"this is not {arguments[0]}")
        serves(server.server_port)
    except (Failed, OSError, http.client.HTTPException) as why:
        print(f"smoke: {why}", file=sys.stderr)
        return 1
    finally:
        Application.let_go.set()
        server.shutdown()
    print("smoke: served and drained")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
