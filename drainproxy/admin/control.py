"""The control socket: `drain` and `undrain`, over a Unix socket that only the sidecar can reach.

Never over TCP: a POST inside the pod's network namespace could be forged through the application. A
process that cannot have the socket runs without it, since a drain by SIGTERM needs none.

An abstract socket (unix(7)) needs no directory, and so no emptyDir, for which `kubectl drain` and the cluster
autoscaler would leave the pod alone. Every container of a pod can reach it, so the kernel is asked who does.
"""

import asyncio
import os
import socket
import stat
import struct
from pathlib import Path

from drainproxy.admin.door import Caller
from drainproxy.admin.http_server import HttpServer, Request, Response, Routes, line
from drainproxy.lifecycle.controller import Controller
from drainproxy.lifecycle.report import Cause
from drainproxy.log import Log


def routes(controller: Controller) -> Routes:
    """Return the routes that exist on the control socket alone."""

    async def drain(request: Request) -> Response:
        """Begin a drain. `?prestop=1` says that the pod ends, so that it cannot be taken back."""
        prestop = request.query.get("prestop") == "1"
        controller.terminate(Cause.UNKNOWN if prestop else Cause.MANUAL, prestop=prestop)
        return line(202, f"{controller.published.phase}, waits for {controller.waiting_for()}")

    async def undrain(_request: Request) -> Response:
        refusal = controller.resume()
        return line(200, "ready") if refusal is None else line(409, refusal)

    return {"/drain": {"POST": drain}, "/undrain": {"POST": undrain}}


def door(path: str, routes: Routes) -> HttpServer:
    """Return who answers on the socket `path`. Who may open a socket that is a file is said by its mode."""
    return _OwnDoor(routes) if path.startswith("@") else HttpServer(routes)


class _OwnDoor(HttpServer):
    """A door for this container's user and nobody else, since the whole pod can reach it."""

    def enter(self, caller: Caller, transport: asyncio.Transport) -> None:
        """See Door. A stranger takes no place, and is not heard."""
        if is_own(transport.get_extra_info("socket")):
            super().enter(caller, transport)
        else:
            transport.abort()


def is_own(peer: socket.socket) -> bool:
    """Tell whether the other end is a process of this user in this container (SO_PEERCRED, unix(7))."""
    pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    # In another container's PID namespace it has no number here; where the pod shares one, its files differ.
    # Some runtimes do not tell of others' namespaces; the other two hold there.
    return uid == os.geteuid() and pid > 0 and _files_of(pid) in {None, _files_of("self")}


def _files_of(process: int | str) -> str | None:
    """Return the name of a process's mount namespace; None where that is not told (proc(5))."""
    try:
        return str(Path(f"/proc/{process}/ns/mnt").readlink())
    except OSError:
        return None


def bind(path: str, log: Log) -> socket.socket | None:
    """Return a Unix socket bound to `path` (`@name`: an abstract one), or None after one warning."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.startswith("@"):
            sock.bind("\0" + path[1:])
        else:
            _bind_file(sock, path)
    except OSError as failure:
        sock.close()
        log.event(
            "control_socket",
            "warning",
            path=path,
            error=failure.strerror or str(failure),
            effect="`drainproxy drain` and `undrain` cannot reach this process",
        )
        return None
    return sock


def _bind_file(sock: socket.socket, path: str) -> None:
    """Make the socket's file, for this user only. Raises OSError."""
    # Whoever may enter the directory may replace the socket in it.
    Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_stale(path)
    # The file is born with its mode: a chmod afterwards would leave a moment in between.
    umask = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(umask)


def unlink(path: str) -> None:
    """Remove the socket file of this process. An abstract socket ends with its process."""
    if not path.startswith("@"):
        Path(path).unlink(missing_ok=True)


def _remove_stale(path: str) -> None:
    """Remove what a killed process left; a socket that somebody answers on is not ours to take."""
    try:
        mode = Path(path).lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        # bind() then fails with its own words.
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            Path(path).unlink(missing_ok=True)
        except BlockingIOError:
            # Its backlog is full: alive.
            return
