"""`python upload_client.py KIND PORT BYTES CHUNK`: one upload; prints the seconds until its answer is here.

`length` and `chunked` send ready frames, a system call each, as http.client does and without what it costs;
`aiohttp` is a client as it is written. What the application says has come is looked at.
"""

from __future__ import annotations

import socket
import sys
import time
from typing import TYPE_CHECKING

import aiohttp
import uvloop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TIMEOUT_S = 120.0
WORD = b"upload, "
"""No line ends: see upload_application.py."""


def _raw(kind: str, port: int, size: int, chunk: int) -> tuple[float, bytes]:
    piece = WORD * (chunk // len(WORD))
    said, frame, end = b"Content-Length: %d" % size, piece, b""
    if kind == "chunked":
        said, frame, end = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (chunk, piece), b"0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as wire:
        began = time.perf_counter()
        wire.sendall(b"POST /upload HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n%b\r\n\r\n" % said)
        for _ in range(size // chunk):
            wire.sendall(frame)
        wire.sendall(end)
        answer = b""
        while len(parts := answer.split(b"\r\n\r\n", 1)) < 2 or not parts[1]:
            if not (more := wire.recv(65536)):
                break
            answer += more
        took = time.perf_counter() - began
    if not answer.startswith(b"HTTP/1.1 200 "):
        sys.exit(f"no 200: {answer[:200]!r}")
    return took, answer.partition(b"\r\n\r\n")[2]


async def _aiohttp(port: int, size: int, chunk: int) -> tuple[float, bytes]:
    piece = WORD * (chunk // len(WORD))

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size // chunk):
            yield piece

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(TIMEOUT_S)) as session:
        began = time.perf_counter()
        async with session.post(f"http://127.0.0.1:{port}/upload", data=pieces()) as answer:
            told = await answer.read()
            return time.perf_counter() - began, told if answer.status == 200 else b"0"


def main() -> None:
    """Send, see that all of it came, and say how long it took."""
    kind, (port, size, chunk) = sys.argv[1], map(int, sys.argv[2:])
    if kind == "aiohttp":
        took, told = uvloop.run(_aiohttp(port, size, chunk))
    else:
        took, told = _raw(kind, port, size, chunk)
    if int(told) < size:
        sys.exit(f"the application says that {told.decode()} bytes came")
    print(took)


if __name__ == "__main__":
    main()
