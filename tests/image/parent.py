"""A parent as process 1 that owns the listening socket, to measure what it would save: see decision 0026.

`python parent.py small` starts drainproxy anew each time it has ended; `python parent.py forking` has
imported it once and forks. Both hand over a socket that is never closed, so that nobody is refused meanwhile.
"""

import os
import signal
import socket
import sys


def listen() -> socket.socket:
    """Bind what the settings name."""
    host, _, port = os.environ["DRAINPROXY_LISTEN"].rpartition(":")
    wire = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    wire.bind((host or "::", int(port)))
    wire.listen(4096)
    return wire


def serve(number: int) -> None:
    """Be the server, on the socket that was handed over."""
    from drainproxy import app
    from drainproxy.__main__ import main
    from drainproxy.proxy.wire import listening_socket

    usual = listening_socket.bind

    def take(address, options, *rest):
        if str(address).endswith(":29900"):
            return usual(address, options, *rest)
        return listening_socket.ListeningSocket(fileno=os.dup(number))

    app.bind = take
    sys.argv = ["drainproxy", "run"]
    sys.exit(main())


def start(wire: socket.socket, way: str) -> int:
    """Start a server; return its process."""
    wire.set_inheritable(True)
    child = os.fork()
    if child == 0:
        if way == "forking":
            serve(wire.fileno())
        os.execv(sys.executable, [sys.executable, __file__, "child", str(wire.fileno())])
    return child


def main(way: str, number: str = "") -> None:
    """Be the parent, or its child."""
    if way == "child":
        serve(int(number))
    wire = listen()
    if way == "forking":
        import gc
        import importlib

        for each in ("app", "cli.main", "eventloop"):
            importlib.import_module(f"drainproxy.{each}")
        gc.collect()
        gc.freeze()
    child = start(wire, way)
    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(each, lambda sent, _: os.kill(child, sent))
    while True:
        gone, status = os.wait()
        if gone != child:
            continue
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))
        child = start(wire, way)


if __name__ == "__main__":
    main(*sys.argv[1:])
