"""The proxy one would write with aiohttp alone: its server, its client, both bodies streamed, uvloop.

It is what drainproxy would cost without a data plane of its own.
Run it as `python -m bench.aiohttp_reference PORT UPSTREAM`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import aiohttp
import uvloop
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


def _forwarded(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP]


def build(upstream: int) -> web.Application:
    """The application: one handler for everything."""
    origin = f"http://127.0.0.1:{upstream}"
    app = web.Application(client_max_size=0)
    session_key = web.AppKey("session", aiohttp.ClientSession)

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=900)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        ) as session:
            app[session_key] = session
            yield

    async def forward(request: web.Request) -> web.StreamResponse:
        headers = _forwarded(request.headers)
        headers.append(("X-Forwarded-For", request.remote or ""))
        async with app[session_key].request(
            request.method,
            origin + request.raw_path,
            headers=headers,
            data=request.content if request.body_exists else None,
            allow_redirects=False,
        ) as answer:
            response = web.StreamResponse(status=answer.status, headers=_forwarded(answer.headers))
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response

    app.cleanup_ctx.append(lifetime)
    app.router.add_route("*", "/{path:.*}", forward)
    return app


def main() -> None:
    """Serve until SIGTERM."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    port, upstream = int(sys.argv[1]), int(sys.argv[2])
    web.run_app(
        build(upstream), host="127.0.0.1", port=port, access_log=None, print=None, keepalive_timeout=900
    )


if __name__ == "__main__":
    main()
