"""A proxy that speaks drainproxy's command line and loses requests on purpose.

It relays bytes; told to end, it closes its listener, cuts every connection and leaves, as a proxy that
was never made for pods does. `losing-posts` before the verb makes it lose no connection and send every
order twice instead. The demo must report both.
"""

import argparse
import asyncio
import json
import signal
import sys


def say(**event: str) -> None:
    print(json.dumps(event), flush=True)


def named(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"{host}:{port}"


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
    try:
        while data := await reader.read(65536):
            seen += data
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def again(host: str, port: int, request: bytes) -> None:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def main(options: argparse.Namespace) -> None:
    upstream_host, _, upstream_port = options.upstream.removeprefix("http://").rpartition(":")
    upstream = (upstream_host, int(upstream_port))
    twice = options.fault == "losing-posts"
    writers: set[asyncio.StreamWriter] = set()
    ending = asyncio.Event()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(*upstream)
        writers.update((writer, up_writer))
        seen = bytearray()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(relay(reader, up_writer, seen))
                group.create_task(relay(up_reader, writer, bytearray()))
            if twice and seen.startswith(b"POST"):
                await again(*upstream, bytes(seen))
        finally:
            writers.difference_update((writer, up_writer))

    async def drain_wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def serve(address: str, handler: object) -> asyncio.Server:
        host, _, port = address.rpartition(":")
        return await asyncio.start_server(handler, host, int(port))

    traffic, admin = await serve(options.listen, forward), await serve(options.admin, drain_wait)
    say(event="listening", listener="admin", address=named(admin))
    say(event="listening", listener="http", address=named(traffic))
    say(event="phase", phase="ready")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await ending.wait()
    traffic.close()
    for writer in writers:
        writer.transport.abort()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("fault")
    parser.add_argument("verb")
    parser.add_argument("--listen")
    parser.add_argument("--upstream")
    parser.add_argument("--admin")
    asyncio.run(main(parser.parse_known_args(sys.argv[1:])[0]))
