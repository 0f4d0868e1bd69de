"""Memory with 10,000 idle keep-alive connections, each of which has carried one request."""

from __future__ import annotations

import resource
import select
import socket
import time
from typing import TYPE_CHECKING

from bench.application import SMALL, SMALL_BODY
from bench.measure import rss_mb
from bench.processes import BenchError
from bench.results import Column, Figure

if TYPE_CHECKING:
    from bench.proxies import Contender
    from bench.rounds import Setting

CONNECTIONS = 10_000
SPARE_DESCRIPTORS = 200
SETTLE_S = 1.0
REQUEST = f"GET {SMALL} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("ascii")
TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 60.0


def idle_connections(contender: Contender, column: Column, setting: Setting) -> None:
    """Open them one after the other, then read the memory and count those still open."""
    needed = CONNECTIONS + SPARE_DESCRIPTORS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        column.words[Figure.RSS_CONNECTIONS] = f"needs `ulimit -n` {needed:,}"
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard < 0 else hard, hard))
    directory = setting.directory / f"{contender.name}-idle"
    upstream = setting.application.port
    opened: list[socket.socket] = []
    with contender.started(core=setting.cores.proxy, upstream=upstream, directory=directory) as (
        program,
        place,
    ):
        try:
            deadline = time.monotonic() + TOTAL_TIMEOUT_S
            for _ in range(CONNECTIONS):
                opened.append(used_once(place.listen))
                if time.monotonic() > deadline:
                    raise BenchError(f"{len(opened)} connections took {TOTAL_TIMEOUT_S:g} s.")
            time.sleep(SETTLE_S)
            column.add(Figure.RSS_CONNECTIONS, rss_mb(program.pid))
            column.open_connections = still_open(opened)
        finally:
            for connection in opened:
                connection.close()
    if column.open_connections < CONNECTIONS:
        memory = column.cell(Figure.RSS_CONNECTIONS)
        column.words[Figure.RSS_CONNECTIONS] = f"{memory}, {column.open_connections:,} open"


def used_once(port: int) -> socket.socket:
    """A connection with one answered request behind it."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
    connection.sendall(REQUEST)
    received = b""
    while not received.endswith(SMALL_BODY):
        part = connection.recv(4096)
        if not part:
            raise BenchError(f"A connection was closed after {received[:80]!r}.")
        received += part
    if not received.startswith(b"HTTP/1.1 200"):
        raise BenchError(f"An idle connection's request got {received[:80]!r}.")
    return connection


def still_open(connections: list[socket.socket]) -> int:
    """An idle connection is silent: whatever can be read is its end."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    return len(connections) - len(poll.poll(0))
