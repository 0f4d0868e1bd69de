"""A value's text: durations, sizes, addresses and words, read and written.

Pure. Who reads raises ValueError with the rest of a sentence that begins with the bad text. kinds.py says
which of these a setting's kind is made of.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import replace

from drainproxy.addresses import ListenAddress, UpstreamAddress

MAX_DURATION_S = 24 * 3600.0
"""Longer than any grace period that makes sense; a typo's worth of zeros is refused."""

MAX_SIZE_BYTES = 16 * 1024 * 1024
"""Buffers of one connection: beyond this a few clients could fill a sidecar's memory limit."""
MAX_TOTAL_BYTES = 1024**4
"""Of a body that passes through, or of all buffers together."""

MAX_COUNT = 10_000
MAX_PLACES = 100_000
"""Of connections: what else is counted is tuned, these are only held."""
MAX_WORD_CHARS = 256
MAX_SOCKET_PATH_BYTES = 107
"""`sun_path` holds 108 bytes with the closing zero (unix(7))."""

_UNITS_S = (3600.0, 60.0, 1.0, 0.001)
_PART = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)"
_DURATION = re.compile(f"(?:{_PART}h)?(?:{_PART}m(?!s))?(?:{_PART}s)?(?:{_PART}ms)?")
"""The largest unit first, each once."""
_SIZE = re.compile(r"([0-9]{1,13})(KiB|MiB|GiB)?")
_SIZE_UNITS = {None: 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SWITCH = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
_SECRETS = re.compile(r"(?<=://)[^/?#]*@|\?[^#]*")
_BRACKETED_IPV4 = re.compile(r"^\[([0-9.]+)\](?=:)")
_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([A-Za-z0-9._-]*)):([0-9]{1,5})", re.ASCII)


def duration(text: str) -> float:
    """Read `500ms`, `30s`, `1m30s` or `1h`, in seconds. A bare number is refused: 30 what?"""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        bare = re.fullmatch(r"[0-9]+(\.[0-9]*)?", text)
        raise ValueError("has no unit" if bare else "is not a duration")
    parts = zip(match.groups("0"), _UNITS_S, strict=True)
    seconds = round(sum(float(number) * unit_s for number, unit_s in parts), 6)
    if seconds > MAX_DURATION_S:
        raise ValueError("is longer than 24h")
    return seconds


def warm_until(text: str) -> float:
    """Read `200`, a status and an int, or `20ms`, in seconds and a float."""
    return int(text) if re.fullmatch("[1-5][0-9]{2}", text) else positive_duration(text)


def show_until(value: float) -> str:
    """Write what `warm_until` reads."""
    return str(value) if is_status(value) else show_duration(value)


def is_status(value: object) -> bool:
    """Tell which of both `warm_until` has read."""
    return isinstance(value, int)


def show_duration(seconds: float) -> str:
    """Write seconds the way `duration` reads them."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    if seconds and seconds % 3600 == 0:
        return f"{seconds / 3600:g}h"
    return f"{seconds:.12g}s"


def positive_duration(text: str) -> float:
    """Read a duration that is not zero."""
    seconds = duration(text)
    if seconds == 0:
        raise ValueError("is no time at all")
    return seconds


def size(text: str, limit: int = MAX_SIZE_BYTES) -> int:
    """Read plain bytes, or KiB, MiB and GiB."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("is not a size")
    size = int(match[1]) * _SIZE_UNITS[match[2]]
    if not 0 < size <= limit:
        raise ValueError("is out of range")
    return size


def total_size(text: str) -> int:
    """Read a size of what no one connection holds."""
    return size(text, MAX_TOTAL_BYTES)


def show_size(size: int) -> str:
    """Write bytes in the largest unit that divides them."""
    for unit in ("GiB", "MiB", "KiB"):
        if size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return str(size)


def ratio(text: str) -> float:
    """Read a part of one."""
    if not re.fullmatch(r"0(\.[0-9]{1,9})?|1(\.0{1,9})?", text):
        raise ValueError("is not a ratio")
    return float(text)


def count(text: str) -> int:
    """Read a whole number above zero."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("is not a whole number")
    if not 0 < int(text) <= MAX_COUNT:
        raise ValueError("is out of range")
    return int(text)


def places(text: str) -> int:
    """Read how many connections there may be."""
    if re.fullmatch(r"[0-9]{1,9}", text) and MAX_COUNT < int(text) <= MAX_PLACES:
        return int(text)
    return count(text)


def close_code(text: str) -> int:
    """Read a status that a server may close a WebSocket with (RFC 6455 section 7.4)."""
    code = count(text)
    if code not in {1000, 1001, 1012, 1013} and not 3000 <= code <= 4999:
        raise ValueError("is no status that a server may choose")
    return code


def switch(text: str) -> bool:
    """Read true or false, by the usual words."""
    if text.lower() not in _SWITCH:
        raise ValueError("is neither true nor false")
    return _SWITCH[text.lower()]


def host(text: str) -> str:
    """Read localhost, pod, or an IP address, in brackets or not."""
    if text in {"localhost", "pod"}:
        return text
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError("is neither") from None


def _host_port(text: str) -> tuple[str, int]:
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        raise ValueError("is not an address")
    if match[1] is not None:
        try:
            ipaddress.IPv6Address(match[1])
        except ValueError:
            raise ValueError("has no IPv6 address in its brackets") from None
    port = int(match[3])
    if port > 65535:
        raise ValueError("has a port beyond 65535")
    return match[1] or match[2], port


def listen_address(text: str) -> ListenAddress:
    """Read `HOST:PORT`, `[IPV6]:PORT` or `:PORT`; port 0 lets the system choose."""
    host, port = _host_port(text)
    return ListenAddress(host or None, port)


def traffic_address(text: str) -> ListenAddress:
    """Read the same, with https:// before it where callers speak TLS."""
    address = listen_address(text.removeprefix("https://"))
    return replace(address, tls=text.startswith("https://"))


def upstream_address(text: str) -> UpstreamAddress:
    """Read where the application listens, a URL without a path."""
    if text.startswith("unix:"):
        return UpstreamAddress(path=socket_path(text.removeprefix("unix:")))
    scheme, _, authority = text.partition("://")
    if scheme not in {"http", "https", "tcp"}:
        raise ValueError("is neither http://, https://, tcp:// nor unix:")
    # The injector writes brackets around an address of which it does not know the family.
    host, port = _host_port(_BRACKETED_IPV4.sub(r"\1", authority.removesuffix("/")))
    if not host:
        raise ValueError("has no host")
    if not port:
        raise ValueError("has port 0")
    return UpstreamAddress(host, port, tls=scheme == "https", tcp=scheme == "tcp")


def word(text: str) -> str:
    """Read printable ASCII."""
    if not text:
        raise ValueError("is empty")
    if not text.isascii() or not text.isprintable():
        raise ValueError("has characters beyond printable ASCII")
    if len(text) > MAX_WORD_CHARS:
        raise ValueError(f"is longer than {MAX_WORD_CHARS} characters")
    return text


def url_path(text: str) -> str:
    """Read what may go onto the wire as a path, with its query."""
    if not word(text).startswith("/"):
        raise ValueError("does not begin with /")
    if " " in text or "#" in text:
        raise ValueError("is not percent-encoded")
    return text


def file_path(text: str) -> str:
    """Read a path; whether it is there is seen when it is opened."""
    if not text or "\0" in text:
        raise ValueError("is not a path")
    return text


def socket_path(text: str) -> str:
    """Read a path that a Unix socket may have, or the name of an abstract one."""
    if len(file_path(text).encode(errors="surrogateescape")) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"is longer than the {MAX_SOCKET_PATH_BYTES} bytes a Unix socket's path may have")
    return text


def ip_address(text: str) -> str:
    """Read an IPv4 or IPv6 address."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("is not an IP address") from None


def loopback_address(text: str) -> str:
    """Read an IPv4 address that no other machine can have (RFC 6890 section 2.2.2)."""
    address = ipaddress.ip_address(ip_address(text))
    if address.version != 4 or not address.is_loopback:
        raise ValueError("is not one")
    return str(address)


def network(text: str) -> str:
    """Read an IPv4 or IPv6 network."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        meant = "has host bits set" if "host bits" in str(error) else "is not a network"
        raise ValueError(meant) from None


def matching(pattern: str, wrong: str) -> Callable[[str], str]:
    """Return what reads a text of this pattern, and says `wrong` of others."""

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(wrong)
        return text

    return read


def without_secrets(text: str) -> str:
    """Return a URL without its user, password and query: what is shown ends up in tickets and logs."""
    if "://" not in text:
        return text
    return _SECRETS.sub(lambda match: "***@" if match[0].endswith("@") else "?***", text)


def port(text: str) -> int:
    """Read a TCP port to connect to."""
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) <= 65535:
        raise ValueError("is not a port")
    return int(text)


def container_port(text: str) -> str:
    """Read a port of a container: its name (RFC 6335 section 5.1), or its number."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?", text, re.ASCII):
        raise ValueError("is not one")
    return str(port(text)) if text.isdecimal() else text
