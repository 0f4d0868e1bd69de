"""The way to the API server: where it is, how it is recognised, and what we say of ourselves.

A pod's own way is three things in its environment and two files, which need no library. A kubeconfig, with
its contexts, exec plugins and OIDC, is read by kubernetes_asyncio, whose one door this is: only those who
have set one pay for it. Called by client.py.
"""

import importlib
import importlib.util
import os
import ssl
import sys
import types
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from drainproxy.kube import kubeconfig
from drainproxy.kube.settings import KubeSettings

DEFAULT_PORTS = {"http": 80, "https": 443}


class NoWay(Exception):
    """There is no API server to be asked, or nothing to show it; says why."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """What stands between us and the API server, and is told CONNECT (RFC 9110 section 9.3.6)."""

    host: str
    port: int
    authorization: str | None


@dataclass(frozen=True, slots=True)
class Access:
    """The way to one API server."""

    host: str
    port: int
    authority: str
    """What Host says (RFC 9112 section 3.2)."""
    prefix: str
    """What stands before every path, where clusters share a server."""
    tls: ssl.SSLContext | None
    server_name: str
    """Whom the server's certificate has to name."""
    proxy: Proxy | None
    token: Callable[[], Awaitable[str | None]]
    """Returns what Authorization says, as new as it is to be had."""


async def access(settings: KubeSettings) -> Access:
    """Return the way that the settings mean. Raises whatever a bad file or a bad setting raises."""
    if settings.kubeconfig is not None:
        context = settings.context if isinstance(settings, kubeconfig.PersonalSettings) else None
        return await _by_kubeconfig(settings.kubeconfig, context)
    return _in_cluster(Path(settings.kubernetes_credentials))


def _in_cluster(directory: Path) -> Access:
    """Read what every pod is given (Kubernetes: Accessing the Kubernetes API from a Pod)."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    port = os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise NoWay("KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set")
    file = directory / "token"

    async def token() -> str:
        return "Bearer " + file.read_text().strip()

    if not file.read_text().strip():
        raise NoWay(f"{file} is empty")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return _way(server, _believe(str(directory / "ca.crt")), token)


async def _by_kubeconfig(path: str, context: str | None) -> Access:
    if wrong := kubeconfig.problem(path, context):
        raise NoWay(wrong)
    configuration = _load("client.configuration").Configuration()
    await _load("config.kube_config").load_kube_config(
        path, context=context, client_configuration=configuration, persist_config=False
    )
    tls = _believe(configuration.ssl_ca_cert)
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE

    async def token() -> str | None:
        auth = await configuration.auth_settings()
        return str(auth["BearerToken"]["value"]) if "BearerToken" in auth else None

    name, proxy = configuration.tls_server_name, configuration.proxy
    return _way(configuration.host, tls, token, server_name=name, proxy=proxy)


def _believe(authorities: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authorities)
    # Up to Python 3.12 this was the default; some clusters' own CAs lack what 3.13 insists on.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _way(
    server: str,
    tls: ssl.SSLContext,
    token: Callable[[], Awaitable[str | None]],
    *,
    server_name: str | None = None,
    proxy: str | None = None,
) -> Access:
    url = urlsplit(server)
    if url.scheme not in DEFAULT_PORTS or not url.hostname:
        raise NoWay(f"{server!r} is no address of an API server")
    return Access(
        host=url.hostname,
        port=url.port or DEFAULT_PORTS[url.scheme],
        authority=url.netloc.rpartition("@")[2],
        prefix=url.path.rstrip("/"),
        tls=tls if url.scheme == "https" else None,
        server_name=server_name or url.hostname,
        proxy=_proxy(proxy or _proxy_variable(url)),
        token=token,
    )


def _proxy_variable(url: SplitResult) -> str | None:
    """Return the proxy that the environment names for this server (`https_proxy` without `no_proxy`)."""
    name = f"{url.scheme}_proxy"
    if not any(each.lower() == name and value for each, value in os.environ.items()):
        return None
    from urllib import request  # noqa: PLC0415 - a megabyte, for the few who have such a variable

    if request.proxy_bypass(url.netloc.rpartition("@")[2]):
        return None
    return request.getproxies().get(url.scheme)


def _proxy(written: str | None) -> Proxy | None:
    if not written:
        return None
    url = urlsplit(written if "://" in written else f"http://{written}")
    if url.scheme != "http" or not url.hostname:
        raise NoWay("the proxy before it is no http:// address")
    authorization = None
    if url.username is not None:
        secret = f"{unquote(url.username)}:{unquote(url.password or '')}"
        authorization = "Basic " + b64encode(secret.encode()).decode()
    return Proxy(url.hostname, url.port or DEFAULT_PORTS["http"], authorization)


def _load(name: str) -> Any:
    """Import a module of kubernetes_asyncio without running its packages' `__init__`.

    Those import every model of the API: 37 MB and 0.2 s (2026-11-23), of which nothing is used here.
    """
    root = "kubernetes_asyncio"
    if root not in sys.modules:
        found = importlib.util.find_spec(root)
        assert found is not None
        assert found.submodule_search_locations is not None
        for part in ("", "client", "config"):
            package = types.ModuleType(f"{root}.{part}".rstrip("."))
            package.__path__ = [str(Path(found.submodule_search_locations[0]) / part)]
            sys.modules[package.__name__] = package
        client: Any = sys.modules[f"{root}.client"]
        client.Configuration = importlib.import_module(f"{root}.client.configuration").Configuration
        client.ApiClient = None
    return importlib.import_module(f"{root}.{name}")
