"""Requests and responses that many tests send."""

from __future__ import annotations

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def asks(method: str, path: str, *lines: str) -> bytes:
    """A request's head with more field lines."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *lines, "\r\n"]).encode()


def get(path: str, *lines: str) -> bytes:
    """A GET with more field lines."""
    return asks("GET", path, *lines)


def upgrade(path: str, protocol: str) -> bytes:
    """A GET that asks for another protocol."""
    return get(path, "Connection: Upgrade", f"Upgrade: {protocol}")


def switching(protocol: str) -> bytes:
    """The 101 to it."""
    lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", f"Upgrade: {protocol}", "\r\n"]
    return "\r\n".join(lines).encode()


def post(body: bytes, *lines: str, path: str = "/") -> bytes:
    """A POST with a length."""
    return asks("POST", path, f"Content-Length: {len(body)}", *lines) + body


def ok(body: bytes, *lines: str) -> bytes:
    """A 200 with a length."""
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *lines, "\r\n"]).encode() + body
