"""An application for a container: answers every request with its own name, and needs nothing but Python."""

import http.server
import signal
import socket
import sys


class Handler(http.server.BaseHTTPRequestHandler):
    """Keeps connections."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = sys.argv[1].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - as the library wants it

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """On a family of the test's choice."""

    address_family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
    request_queue_size = 128


# Process 1 has no default action: without a handler SIGTERM would be no end.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
Server((sys.argv[2], 8080), Handler).serve_forever()
