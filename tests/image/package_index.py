"""A private package index (PEP 503) over TLS on loopback: what a company has in place of the public one."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.authority import Authority


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        _, room, *rest = self.path.split("/")
        if room == "simple":
            names = [each.name for each in sorted(self.files.iterdir()) if _project(each.name) == rest[0]]
            links = "".join(f'<a href="/files/{name}">{name}</a>' for name in names)
            self._answer(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), "text/html")
        elif (file := self.files / rest[0]).is_file():
            self._answer(200, file.read_bytes(), "application/octet-stream")
        else:
            self._answer(404, b"", "text/plain")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that does not trust this index and leaves."""


def _project(file: str) -> str:
    return re.sub(r"[-_.]+", "-", file.partition("-")[0]).lower()


@contextlib.contextmanager
def serve(files: Path, authority: Authority) -> Iterator[tuple[str, list[str]]]:
    """Serve a directory of wheels; yield the index's URL and the paths that have been asked for."""
    certificate, key = authority.issue("localhost")
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"files": files, "asked": asked})
    server = _Server(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # Each handshake runs in its connection's own thread: a client that breaks one off holds up nobody.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://localhost:{server.server_address[1]}/simple", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
