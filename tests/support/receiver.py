"""An OTLP/HTTP receiver, a process of its own: `python -m tests.support.receiver` writes each span
and each point of a metric as JSON.

Its first line is its port. What it answers is what was last written to it: `200`, another status, or `wait`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.command import environment
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue


class Receiver:
    """The process, as a test sees it: `async with Receiver() as receiver:`."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        """Every span taken, oldest first."""
        self.points: list[dict[str, Any]] = []
        """Every point of a metric, in the order in which they came."""
        self.asked = 0
        """How many batches came, those that got no answer included."""
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Receiver:
        self._child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.receiver"),
            env=environment(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1024 * 1024,
        )
        assert self._child.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            self.address = f"http://127.0.0.1:{int(await self._child.stdout.readline())}"
        self.endpoint, self.metrics = f"{self.address}/v1/traces", f"{self.address}/v1/metrics"
        self._reading = asyncio.get_running_loop().create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> None:
        """Be gone, once or again: whoever sends is refused."""
        if self._child.returncode is None:
            self._child.kill()
        await self._child.wait()
        await self._reading

    async def answer(self, how: str) -> None:
        """Answer like that from now on; what waits is answered too."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{how}\n".encode())
        await self._child.stdin.drain()

    async def span(self, number: int = 1) -> dict[str, Any]:
        """Wait for so many spans; return the last of them."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.spans) < number:
                await self._more()
        return self.spans[number - 1]

    async def point(self) -> None:
        """Wait for a push, which is one request, with all its points."""
        async with asyncio.timeout(PATIENCE_S):
            while not any(line.get("last") for line in self.points):
                await self._more()

    async def batch(self, number: int = 1) -> None:
        """Wait until so many batches have come."""
        async with asyncio.timeout(PATIENCE_S):
            while self.asked < number:
                await self._more()

    async def _more(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    async def _read(self) -> None:
        assert self._child.stdout is not None
        async for raw in self._child.stdout:
            line = json.loads(raw)
            if "asked" in line:
                self.asked += 1
            elif "point" in line:
                self.points.append(line)
            else:
                self.spans.append(line)
            self._changed.set()


class _Served:
    """The process, from within."""

    def __init__(self) -> None:
        self._how, self._told = "200", asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        """Answer one export."""
        batch = ExportTraceServiceRequest.FromString(await request.read())
        if (refusal := await self._judge(request)) is not None:
            return refusal
        for group in batch.resource_spans:
            resource = _plain(group.resource.attributes)
            for scope in group.scope_spans:
                for span in scope.spans:
                    self._say(
                        {
                            "trace": span.trace_id.hex(),
                            "id": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "state": span.trace_state,
                            "name": span.name,
                            "kind": span.kind,
                            "status": span.status.code,
                            "took_ns": span.end_time_unix_nano - span.start_time_unix_nano,
                            "said": _plain(span.attributes),
                            "resource": resource,
                        }
                    )
        body = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=body, content_type="application/x-protobuf")

    async def take_metrics(self, request: web.Request) -> web.Response:
        """Answer one export of metrics."""
        batch = ExportMetricsServiceRequest.FromString(await request.read())
        if (refusal := await self._judge(request)) is not None:
            return refusal
        lines = [
            {
                "point": metric.name,
                "labels": _plain(point.attributes),
                "resource": _plain(group.resource.attributes),
                "value": point.as_double,
                "at_ns": point.time_unix_nano,
            }
            for group in batch.resource_metrics
            for scope in group.scope_metrics
            for metric in scope.metrics
            for point in metric.gauge.data_points
        ]
        for left, line in enumerate(reversed(lines)):
            self._say({**line, "last": left == len(lines) - 1})
        body = ExportMetricsServiceResponse().SerializeToString()
        return web.Response(body=body, content_type="application/x-protobuf")

    async def _judge(self, request: web.Request) -> web.Response | None:
        assert request.content_type == "application/x-protobuf"
        self._say({"asked": request.path})
        while self._how == "wait":
            self._told.clear()
            await self._told.wait()
        return None if self._how == "200" else web.Response(status=int(self._how))

    def _say(self, line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)

    def hear(self) -> None:
        """Take what the test has written."""
        self._how = sys.stdin.readline().strip() or self._how
        self._told.set()


def _plain(attributes: list[KeyValue]) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


async def _serve() -> None:
    served, application = _Served(), web.Application()
    application.router.add_post("/v1/traces", served.take)
    application.router.add_post("/v1/metrics", served.take_metrics)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    asyncio.get_running_loop().add_reader(sys.stdin, served.hear)
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
