"""Connections that reach the application around the proxy are counted, its own are not."""

from __future__ import annotations

import socket

import pytest

from drainproxy.kube import bypass
from drainproxy.kube.bypass import Bypass, count
from drainproxy.metrics import Metrics
from drainproxy.tasks import Connections

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROWS = """\
   0: 0100007F:1F90 0200007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1
   1: 050A000A:1F90 090A000A:C002 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1
   2: 050A000A:1F90 090A000A:C003 06 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1
   3: 050A000A:C004 090A000A:1F90 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1
   4: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1
   5: 050A000A:1F91 090A000A:C005 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 20 4 30 10 -1
"""
ROWS6 = """\
   0: 0000000000000000FFFF0000050A000A:1F90 0000000000000000FFFF0000090A000A:C006 01 00000000:00000000
   1: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000600007F:C007 01 00000000:00000000
   2: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:C008 01 00000000:00000000
   3: B80D0120000000000000000005000000:1F90 B80D0120000000000000000009000000:C009 01 00000000:00000000
"""


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """The kernel's tables as files, with what a pod sees."""
    paths = (tmp_path / "tcp", tmp_path / "tcp6")
    paths[0].write_text(HEAD + ROWS)
    paths[1].write_text(HEAD + ROWS6)
    monkeypatch.setattr(bypass, "TABLES", paths)
    return paths


def test_established_connections_from_elsewhere_are_counted(tables):
    """IPv4, IPv4 in IPv6 and IPv6; neither loopback nor what is closed, listening or going out."""
    assert count([8080]) == 3
    assert count([8080, 8081, 8080]) == 4
    assert count([9999]) == 0
    assert count([]) == 0


def test_rows_are_counted_wherever_a_piece_ends(tables, monkeypatch):
    """The table is read in pieces, and a row may be in two of them."""
    for size in range(1, 300):
        monkeypatch.setattr(bypass, "PIECE_BYTES", size)
        assert count([8080]) == 3


def test_without_tables_nothing_is_counted(tables):
    """Not every kernel, and not every sandbox, has them."""
    for path in tables:
        path.unlink()
    assert count([8080]) == 0


def test_a_real_connection_from_loopback_is_ours():
    """The proxy reaches the application there, and so does a mesh."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert count([port]) == 0


async def test_a_scrape_gets_the_last_answer_and_asks_for_the_next(tables):
    """The table is read in a thread: the kernel takes its time."""
    metrics, failures = Metrics(), []
    tasks = Connections(lambda *failure: failures.append(failure))
    watched = Bypass([8080], metrics, tasks)
    (refresh,) = metrics.before_scrape
    refresh()
    refresh()
    assert metrics.upstream_bypass_connections.value() == 0
    assert len(tasks) == 1
    await watched._counting
    assert metrics.upstream_bypass_connections.value() == 3
    assert failures == []
