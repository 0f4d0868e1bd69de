"""`drain`, `undrain` and `wait`: what a pod's hooks run, nearly free.

Imports os, sys and the C half of socket, whose other half would be half of what a hook costs, and from this
package nothing that imports more (a test keeps it so): a hook in a container limited to a tenth of a CPU
would spend seconds importing what the proxy needs, and the kubelet does not wait. For the same reason it
reads its one setting from os.environ itself, the only place beside cli/main.py that does. Called by
__main__.py, and by that for the spellings only argparse knows.
"""

import _socket
import os
import sys

VERBS = ("drain", "undrain", "wait")

DEFAULT_CONTROL_SOCKET = "@drainproxy"
"""AdminSettings.control_socket, which is a dataclass and would cost an import; a test compares them."""

TIMEOUT_S = 5.0
"""For an answer that the proxy gives at once. Only `/drain/wait` may take as long as it takes."""

MAX_ANSWER_BYTES = 64 * 1024

EXIT_REFUSED = 1
EXIT_UNREACHABLE = 69
"""EX_UNAVAILABLE of sysexits.h."""


class _Unreachable(Exception):
    """Nobody answers on the control socket; says why."""


def understand(arguments: list[str]) -> tuple[str, str, bool, bool] | None:
    """Return (verb, control socket or "", prestop, wait); None for what argparse should explain."""
    verb, *options = arguments
    path, prestop, wait = "", False, False
    while options:
        option = options.pop(0)
        if option == "--control-socket" and options and options[0]:
            path = options.pop(0)
        elif option == "--prestop" and verb == "drain":
            prestop = True
        elif option == "--wait" and verb == "drain":
            wait = True
        else:
            return None
    return verb, path, prestop, wait


def run(verb: str, path: str = "", prestop: bool = False, wait: bool = False) -> int:
    """Ask the proxy over its control socket; return the exit code."""
    path = path or os.environ.get("DRAINPROXY_CONTROL_SOCKET") or DEFAULT_CONTROL_SOCKET
    requests: list[tuple[str, float | None]] = []
    if verb in {"drain", "undrain"}:
        requests.append((f"POST /{verb}{'?prestop=1' if prestop else ''}", TIMEOUT_S))
    if verb == "wait" or wait:
        requests.append(("GET /drain/wait", None))
    for request, timeout_s in requests:
        try:
            status, text = _ask(path, request, timeout_s)
        except _Unreachable as reason:
            return _fail(verb, f"{path}: {reason}", EXIT_UNREACHABLE)
        if not 200 <= status < 300:
            return _fail(verb, text or f"the proxy answered {status}", EXIT_REFUSED)
        print(text)
    return 0


def _fail(verb: str, why: str, code: int) -> int:
    print(f"drainproxy {verb}: {why}", file=sys.stderr)
    return code


def _ask(path: str, request: str, timeout_s: float | None) -> tuple[int, str]:
    """Send one request and return the answer's status and text."""
    # HTTP/1.0, because its answer is never chunked (RFC 9112 section 7.1.1) and ends where the peer closes.
    message = f"{request} HTTP/1.0\r\nHost: drainproxy\r\nContent-Length: 0\r\n\r\n"
    answer = b""
    peer = _socket.socket(_socket.AF_UNIX)
    peer.settimeout(timeout_s)
    try:
        if path.startswith("@"):
            peer.connect("\0" + path[1:])
            _look_at(peer)
        else:
            peer.connect(path)
        peer.sendall(message.encode())
        while len(answer) < MAX_ANSWER_BYTES and (data := peer.recv(4096)):
            answer += data
    except TimeoutError:
        raise _Unreachable(f"no answer within {timeout_s:g} s") from None
    except OSError as error:
        raise _Unreachable(_why(error)) from None
    finally:
        peer.close()
    head, blank, body = answer.partition(b"\r\n\r\n")
    version, _, rest = head.partition(b" ")
    if not blank or not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise _Unreachable("closed without an answer")
    return int(rest[:3]), body.decode("utf-8", "replace").strip()


def _look_at(peer: _socket.socket) -> None:
    """Insist on a process of this user behind the name: an abstract one any container of the pod may take."""
    told = peer.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    pid, uid = (int.from_bytes(told[at : at + 4], sys.byteorder) for at in (0, 4))
    # Some runtimes do not tell of others' namespaces: a hook that refused there would start no drain.
    if uid != os.geteuid() or not pid or _files_of(pid) not in {"", _files_of("self")}:
        raise _Unreachable("it belongs to another user or container")


def _files_of(process: int | str) -> str:
    """Return the name of a process's mount namespace, by which containers that share processes differ."""
    try:
        return os.readlink(f"/proc/{process}/ns/mnt")  # noqa: PTH115 - pathlib would cost an import
    except OSError:
        return ""


def _why(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such socket; is `drainproxy run` running, and is this its container?"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens; the proxy has ended"
    return error.strerror or str(error)
