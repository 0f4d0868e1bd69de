"""`python -m bench.many`: what many connections cost that say little, beside nginx.

20,000 idle ones that have each carried a request, and 5,000 WebSockets with a message a second that is said
again. Memory is read while they are held; CPU of the proxy alone is divided by the messages that came back.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvloop

from bench.application import application
from bench.idle import SPARE_DESCRIPTORS, still_open, used_once
from bench.measure import cpu_s, private_mb, rss_mb
from bench.processes import BenchError, free_port, running, two_cores
from bench.proxies import CONTENDERS, MEASURE, OURS, configured
from bench.table import page
from bench.websocket_echo import PAYLOAD_BYTES

if TYPE_CHECKING:
    from bench.processes import Cores
    from bench.proxies import Contender, Place

IDLE = 20_000
WEBSOCKETS = 5_000
EVERY_S, RUN_S = 1.0, 15.0
FILES = 60_000
SETTLE_S = 2.0
OPEN_AT_ONCE = 50
ECHO = Path(__file__).parent / "websocket_echo.py"
UPGRADE = (
    b"GET /socket HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MESSAGE = b"\x82%c" % (0x80 | PAYLOAD_BYTES) + bytes(4) + b"m" * PAYLOAD_BYTES
ANSWER = b"\x82%c" % PAYLOAD_BYTES + b"m" * PAYLOAD_BYTES
ROWS = (
    "memory, ready and idle",
    "memory, 20,000 idle connections",
    "of it nobody shares",
    "memory, 5,000 WebSockets",
    "of it nobody shares",
    "CPU per message and its answer",
)


class Socket(asyncio.Protocol):
    """One WebSocket that asks once in EVERY_S."""

    def __init__(self) -> None:
        self.opened = asyncio.get_running_loop().create_future()
        self.answered = 0
        self._said = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.wire = cast("asyncio.Transport", transport)
        self.wire.write(UPGRADE)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        data = self._said + data
        if not self.opened.done():
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self._said = head
                return
            self.opened.set_result(head.startswith(b"HTTP/1.1 101 "))
        while data.startswith(ANSWER):
            self.answered += 1
            data = data[len(ANSWER) :]
        self._said = data

    def ask(self) -> None:
        """Say a message, now and again."""
        if not self.wire.is_closing():
            self.wire.write(MESSAGE)
            asyncio.get_running_loop().call_later(EVERY_S, self.ask)


async def talk(port: int, pid: int) -> list[str]:
    """Open all WebSockets, let them talk; return the cells of their rows."""
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(OPEN_AT_ONCE)
    sockets: list[Socket] = []

    async def open_one() -> None:
        async with gate:
            _, one = await loop.create_connection(Socket, "127.0.0.1", port)
            if not await one.opened:
                raise BenchError("A WebSocket was not accepted.")
            sockets.append(one)

    async with asyncio.TaskGroup() as group:
        for _ in range(WEBSOCKETS):
            group.create_task(open_one())
    for number, one in enumerate(sockets):
        loop.call_later(EVERY_S * number / WEBSOCKETS, one.ask)
    await asyncio.sleep(SETTLE_S)
    before, used = sum(one.answered for one in sockets), cpu_s(pid)
    await asyncio.sleep(RUN_S)
    answered = sum(one.answered for one in sockets) - before
    used = cpu_s(pid) - used
    cells = [f"{rss_mb(pid):.1f} MB", f"{private_mb(pid):.1f} MB", f"{used * 1e6 / answered:.1f} µs"]
    expected = WEBSOCKETS * RUN_S / EVERY_S
    if answered < 0.95 * expected:
        cells[-1] += f" ({100 * answered / expected:.0f} % of the messages: the machine is too busy)"
    for one in sockets:
        one.wire.abort()
    await asyncio.sleep(0)
    return cells


def idle(contender: Contender, cores: Cores, directory: Path) -> list[str]:
    """Hold idle connections, or as many as a process may have here; return the cells of their rows."""
    count = min(IDLE, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_DESCRIPTORS)
    with (
        application(directory / "application", core=cores.load) as app,
        contender.started(core=cores.proxy, upstream=app.port, directory=directory / "proxy") as (
            proxy,
            place,
        ),
    ):
        cells = [f"{rss_mb(proxy.pid):.1f} MB"]
        held = []
        try:
            for _ in range(count):
                held.append(used_once(place.listen))  # noqa: PERF401 - closed, however far it has come
            time.sleep(SETTLE_S)
            cells += [f"{rss_mb(proxy.pid):.1f} MB", f"{private_mb(proxy.pid):.1f} MB"]
            if (left := still_open(held)) < IDLE:
                cells[1] += f", {left:,} open"
        finally:
            for connection in held:
                connection.close()
    return cells


def websockets(contender: Contender, cores: Cores, directory: Path) -> list[str]:
    """Let WebSockets talk; return the cells of their rows."""
    directory.mkdir()
    port = free_port()
    with (
        running([sys.executable, str(ECHO), str(port)], core=cores.load, directory=directory),
        contender.starting(core=cores.proxy, upstream=port, directory=directory / "proxy") as (proxy, place),
    ):
        if contender.asks_readyz:
            contender.wait_ready(proxy, place)
        else:
            time.sleep(SETTLE_S)
        return uvloop.run(talk(place.listen, proxy.pid))


def _ours(place: Place) -> list[str]:
    return [*_BY_NAME[OURS].command(place), "--max-connections", str(IDLE + WEBSOCKETS)]


def _nginx(place: Place) -> list[str]:
    command = _BY_NAME[MEASURE].command(place)
    config = configured("nginx.conf", place)
    text = config.read_text(encoding="utf-8").replace("12000", str(FILES))
    upgraded = "proxy_set_header Upgrade $http_upgrade;\n      proxy_set_header Connection $upgraded;"
    text = text.replace('proxy_set_header Connection "";', upgraded)
    text = text.replace("http {\n", 'http {\n  map $http_upgrade $upgraded { default upgrade; "" ""; }\n', 1)
    config.write_text(text, encoding="utf-8")
    return command


_BY_NAME = {contender.name: contender for contender in CONTENDERS}


def main() -> int:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(prog="python -m bench.many", description=__doc__)
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    options = parser.parse_args()
    ours, nginx = _BY_NAME[OURS], _BY_NAME[MEASURE]
    columns: dict[str, list[str]] = {}
    try:
        cores = two_cores()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        with tempfile.TemporaryDirectory(prefix="bench-") as place:
            for contender, command in ((ours, _ours), (nginx, _nginx)):
                one = contender.like(contender.name, command, asks_readyz=contender.asks_readyz)
                where = Path(place) / one.name
                where.mkdir()
                columns[one.name] = idle(one, cores, where / "idle")
                columns[one.name] += websockets(one, cores, where / "websockets")
    except (BenchError, OSError, ValueError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    lines = [f"| figure | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    lines += [f"| {' | '.join(row)} |" for row in zip(ROWS, *columns.values(), strict=True)]
    print("\n".join(lines))
    if options.markdown:
        text = page("What many quiet connections cost", "bench.many", lines)
        options.markdown.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
