"""An injected pod, run for real in a network namespace: its init container, its sidecar, its application."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from drainproxy.injector.patch import Injected, InjectorDefaults, inject
from tests.support.command import environment
from tests.support.network import ADMIN, POD, POD_6
from tests.support.process import Proxy
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.network import Namespace

ALLOWED = InjectorDefaults(kubernetes=(1, 36), redirect_image="example/drainproxy:1-redirect")
APPLICATION = """
import os, socket, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"from {self.client_address[0].removeprefix('::ffff:')} at {sys.argv[1]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

host = "" if "--deaf" in sys.argv else os.environ.get("HOST", "")
class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET if "." in host else socket.AF_INET6
    def server_bind(self):
        if not host:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
numbers = os.environ.get("PORT", sys.argv[1]).split(",")
servers = [Server((host or "::", int(number)), Answers) for number in numbers]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
print("serving", flush=True)
servers[0].serve_forever()
"""
"""It listens where HOST and PORT say, or at every address at the port that it is given."""
DOWNWARD = {"status.podIPs": f"{POD},{POD_6}", "metadata.name": "web-1", "metadata.namespace": "shop"}
"""What a kubelet would fill in; without a UID and a token nobody asks a cluster."""
ONLY_NET_ADMIN = ("setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all", "--no-new-privs")
"""As the init container's securityContext says it."""


def captured(*ports: dict[str, Any], probes: dict[str, Any] | None = None, **options: str) -> Injected:
    """Return a pod of one application, with annotations of ours."""
    named = {f"drainproxy.io/{name.replace('_', '-')}": text for name, text in options.items()}
    container = {"name": "app", "image": "x", "ports": list(ports), **(probes or {})}
    metadata = {"name": "web", "labels": {"drainproxy.io/inject": "true"}, "annotations": named}
    made = inject({"metadata": metadata, "spec": {"containers": [container]}}, ALLOWED)
    assert isinstance(made, Injected), made
    return made


def sidecar_of(made: Injected) -> dict[str, Any]:
    """Return our container."""
    spec = made.pod["spec"]
    return next(
        each for each in (*spec["initContainers"], *spec["containers"]) if each["name"] == "drainproxy"
    )


async def led(made: Injected, network: Namespace, *how: str) -> str:
    """Run the init container, if the pod has one; return what it said."""
    said = ""
    for each in made.pod["spec"]["initContainers"]:
        if each["name"] == "drainproxy-redirect":
            command = [sys.executable, "-m", "drainproxy", *each["args"]]
            said += (await network.run(*(how or ONLY_NET_ADMIN), *command)).decode()
    return said


def proxy(made: Injected, network: Namespace, loop: str) -> Proxy:
    """Return the pod's sidecar, as its environment says."""
    env = {
        each["name"].removeprefix("DRAINPROXY_").lower(): each["value"]
        if "value" in each
        else DOWNWARD.get(each["valueFrom"]["fieldRef"]["fieldPath"], "")
        for each in sidecar_of(made)["env"]
    }
    settings = {name: text for name, text in env.items() if text and name not in ("listen", "upstream")}
    return Proxy(
        upstreams=env["upstream"].split(","),
        listen=env["listen"].split(","),
        network=network.pid,
        loop=loop,
        **{**settings, "rbac": "none", "admin": f":{ADMIN}", "settle": "50ms", "linger": "200ms"},
    )


@contextlib.asynccontextmanager
async def application(made: Injected, network: Namespace, *flags: str) -> AsyncIterator[None]:
    """Run the application as its container says; `--deaf`: it does not read HOST."""
    [container] = [each for each in made.pod["spec"]["containers"] if each["name"] == "app"]
    numbers = ",".join(str(each["containerPort"]) for each in container["ports"])
    told = {each["name"]: each["value"] for each in container.get("env", ())}
    child = await asyncio.create_subprocess_exec(
        *("nsenter", f"--net=/proc/{network.pid}/ns/net", sys.executable, "-c", APPLICATION, numbers, *flags),
        env=environment(PORT=numbers) | told,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            assert await child.stdout.readline() == b"serving\n"
        yield
        assert child.returncode is None, "nothing that we do ends it"
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def answered(network: Namespace, number: int, to: str = POD) -> str:
    """Return what a GET from here is answered with: the body, or what became of the connect."""
    try:
        answer = await network.ask("GET /", to=to, port=number)
    except AssertionError as failure:
        return str(failure).strip().splitlines()[-1].partition(":")[0]
    return answer.partition("\r\n\r\n")[2] if " 200 " in answer else answer.partition("\r\n")[0]
