"""Does anybody listen there? The kernel is asked, and no application notices (sock_diag(7), 20 us).

It is asked for what a SYN to an address of this network namespace would find. A sidecar shares that with its
application. Where netlink cannot be used (another system, a sandbox), nothing is known.
"""

import errno
import ipaddress
import socket
import struct
from typing import Final

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _DUMP = 0x1, 0x300
_LISTEN: Final = 10
_NO_COOKIE: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("=IHHII")
_ADDRESS_AT: Final = _HEADER.size + 8
"""Of the local address in a found socket, behind its states and ports (linux/inet_diag.h)."""
MAX_ANSWER_BYTES: Final = 32 * 1024


class Kernel:
    """One netlink socket, opened when it is first needed."""

    def __init__(self) -> None:
        self._wire: socket.socket | None = None
        self._deaf = not hasattr(socket, "AF_NETLINK")

    def listens(self, host: str, port: int) -> bool | None:
        """Tell whether a connect to this IP address would find a listening socket; None: no telling."""
        address = ipaddress.ip_address(host)
        answer = self._ask(_request(address.version, port, address.packed, 0xFFFFFFFF), _REQUEST)
        for kind, data in answer:
            if kind == _SOCK_DIAG_BY_FAMILY:
                return data[_HEADER.size + 1] == _LISTEN
            if kind == _NLMSG_ERROR and _code(data) == errno.ENOENT:
                return False
        return None

    def places(self, port: int) -> list[str]:
        """Return the addresses at which somebody listens on a port, as far as that can be told."""
        found = []
        for version, size in ((4, 4), (6, 16)):
            for kind, data in self._ask(_request(version, port, b"", 1 << _LISTEN), _REQUEST | _DUMP):
                if kind == _SOCK_DIAG_BY_FAMILY:
                    found.append(str(ipaddress.ip_address(data[_ADDRESS_AT : _ADDRESS_AT + size])))
        return found

    def _ask(self, request: bytes, flags: int) -> list[tuple[int, bytes]]:
        if self._deaf:
            return []
        try:
            if self._wire is None:
                self._wire = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)
                self._wire.setblocking(False)
            size = _HEADER.size + len(request)
            self._wire.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, flags, 1, 0) + request)
            return self._read(self._wire, more=bool(flags & _DUMP))
        except OSError as error:
            self._deaf = error.errno not in {errno.EMFILE, errno.ENFILE}
            self.close()
            return []

    @staticmethod
    def _read(wire: socket.socket, *, more: bool) -> list[tuple[int, bytes]]:
        messages: list[tuple[int, bytes]] = []
        while True:
            data = wire.recv(MAX_ANSWER_BYTES)
            while len(data) >= _HEADER.size:
                size, kind, *_ = _HEADER.unpack_from(data)
                messages.append((kind, data[:size]))
                data = data[max((size + 3) & ~3, _HEADER.size) :]
            if not more or messages[-1][0] in {_NLMSG_DONE, _NLMSG_ERROR}:
                return messages

    def close(self) -> None:
        """Give the socket back."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None


def _request(version: int, port: int, address: bytes, states: int) -> bytes:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    socket_id = struct.pack(">HH", port, 0) + address.ljust(32, b"\0")
    socket_id += struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
    return struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, states) + socket_id


def _code(data: bytes) -> int:
    return -int(struct.unpack_from("=i", data, _HEADER.size)[0])
