"""Requests and responses that many tests send."""

from __future__ import annotations

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def get(path: str, *lines: str) -> bytes:
    """A GET with more field lines."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *lines, "\r\n"]).encode()


def post(body: bytes, *lines: str, path: str = "/") -> bytes:
    """A POST with a length."""
    head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body)}", *lines, "\r\n"]
    return "\r\n".join(head).encode() + body


def ok(body: bytes, *lines: str) -> bytes:
    """A 200 with a length."""
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *lines, "\r\n"]).encode() + body
