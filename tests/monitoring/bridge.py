"""OTLP/HTTP in, Prometheus remote write out: what an OpenTelemetry Collector does between the two.

Debian's Prometheus (2.42) is older than its own OTLP receiver (2.47). Gauges only; names as OpenTelemetry's
"Prometheus and OpenMetrics Compatibility" has them: `job` and `instance` are the service's name and instance,
what else the resource has is in `target_info` alone. Who sends is answered when Prometheus has it.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

import aiohttp
import cramjam
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics

PATH = "/v1/metrics"
Sample = tuple[dict[str, str], float, int]
"""Labels, a value, and when it was, in milliseconds."""


class Bridge:
    """`async with Bridge() as bridge:`; `bridge.endpoint` takes OTLP, for `bridge.remote_write`."""

    def __init__(self) -> None:
        self.remote_write = ""
        self._runner = web.ServerRunner(web.Server(self._take), shutdown_timeout=0.1)

    async def __aenter__(self) -> Bridge:
        self._session = aiohttp.ClientSession()
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.endpoint = f"http://127.0.0.1:{self._runner.addresses[0][1]}{PATH}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _take(self, request: web.BaseRequest) -> web.Response:
        assert request.path == PATH
        asked = ExportMetricsServiceRequest.FromString(await request.read())
        samples = [sample for resource in asked.resource_metrics for sample in translated(resource)]
        if failure := await self.write(samples):
            return web.Response(status=400, text=failure)
        body = ExportMetricsServiceResponse().SerializeToString()
        return web.Response(body=body, content_type="application/x-protobuf")

    async def write(self, samples: list[Sample]) -> str:
        """Write to Prometheus; return why it did not take it, or nothing."""
        headers = {"Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
        body = bytes(cramjam.snappy.compress_raw(written(samples)))
        async with self._session.post(self.remote_write, data=body, headers=headers) as answer:
            return "" if answer.status == 204 else await answer.text()


def translated(resource: ResourceMetrics) -> Iterator[Sample]:
    """Yield the samples of one process."""
    about = _labels(resource.resource.attributes)
    target = {"job": about.pop("service_name"), "instance": about.pop("service_instance_id")}
    when = 0
    for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
        assert metric.WhichOneof("data") == "gauge"
        assert not metric.unit, "a unit would be appended to the name"
        for point in metric.gauge.data_points:
            when = point.time_unix_nano // 1_000_000
            value = point.as_double if point.WhichOneof("value") == "as_double" else point.as_int
            yield {"__name__": _name(metric.name), **_labels(point.attributes), **target}, value, when
    yield {"__name__": "target_info", **about, **target}, 1, when


def _labels(attributes: Iterable[KeyValue]) -> dict[str, str]:
    return {_name(each.key): each.value.string_value for each in attributes}


def _name(text: str) -> str:
    return re.sub("[^a-zA-Z0-9_]", "_", text)


def written(samples: Iterable[Sample]) -> bytes:
    """Return a WriteRequest of remote write 1.0 (Prometheus: prompb/remote.proto, prompb/types.proto)."""
    return b"".join(_field(1, _series(labels) + _field(2, _sample(*point))) for labels, *point in samples)


def _series(labels: Mapping[str, str]) -> bytes:
    """Return the labels of a TimeSeries: sorted, as the specification asks."""
    return b"".join(
        _field(1, _field(1, name.encode()) + _field(2, text.encode()))
        for name, text in sorted(labels.items())
    )


def _sample(value: float, when_ms: int) -> bytes:
    return b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(when_ms)


def _field(number: int, content: bytes) -> bytes:
    """Return a field that has a length of its own (Protocol Buffers: Encoding)."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    said = bytearray()
    while number > 0x7F:
        said.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*said, number])
