"""A setting's text and its value: durations, sizes, addresses and choices, read and written.

Pure. `kind_of` chooses by a field's type and, where the type says too little, by how its name ends.
A `read` raises ValueError with the rest of a sentence that begins with the bad text. Called by config.py,
by what shows settings to people, and by the generator of docs/.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin

from drainproxy.addresses import ListenAddress, UpstreamAddress
from drainproxy.lifecycle.propagation import PRESETS
from drainproxy.lifecycle.settings import ReadinessOnDrain

MAX_DURATION_S = 24 * 3600.0
"""Longer than any grace period that makes sense; a typo's worth of zeros is refused."""

MAX_SIZE_BYTES = 16 * 1024 * 1024
"""Buffers of one connection: beyond this a few clients could fill a sidecar's memory limit."""
MAX_TOTAL_BYTES = 1024**4
"""Of a body that passes through, or of all buffers together."""

MAX_COUNT = 10_000
MAX_WORD_CHARS = 256
MAX_SOCKET_PATH_BYTES = 107
"""`sun_path` holds 108 bytes with the closing zero (unix(7))."""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_SIZE = re.compile(r"([0-9]{1,13})(KiB|MiB|GiB)?")
_SIZE_UNITS = {None: 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_SWITCH = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
_SECRETS = re.compile(r"(?<=://)[^/?#]*@|\?[^#]*")
_BRACKETED_IPV4 = re.compile(r"^\[([0-9.]+)\](?=:)")
_HOST_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([A-Za-z0-9._-]*)):([0-9]{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of writing a value."""

    metavar: str
    allowed: str
    """Completes "write ..."."""
    read: Callable[[str], Any]
    show: Callable[[Any], str] = str


def duration(text: str) -> float:
    """Read `500ms`, `30s`, `2m` or `1h`, in seconds. A bare number is refused: 30 what?"""
    match = _DURATION.fullmatch(text)
    if match is None:
        bare = re.fullmatch(r"[0-9]+(\.[0-9]*)?", text)
        raise ValueError("has no unit" if bare else "is not a duration")
    seconds = round(float(match[1]) * _UNITS_S[match[2]], 6)
    if seconds > MAX_DURATION_S:
        raise ValueError("is longer than 24h")
    return seconds


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


def _size(text: str, limit: int = MAX_SIZE_BYTES) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("is not a size")
    size = int(match[1]) * _SIZE_UNITS[match[2]]
    if not 0 < size <= limit:
        raise ValueError("is out of range")
    return size


def _show_size(size: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}"
    return str(size)


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("is not a whole number")
    if not 0 < int(text) <= MAX_COUNT:
        raise ValueError("is out of range")
    return int(text)


def _close_code(text: str) -> int:
    code = _count(text)
    if code not in {1000, 1001, 1012, 1013} and not 3000 <= code <= 4999:
        raise ValueError("is no status that a server may choose")
    return code


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError("is neither true nor false")
    return _SWITCH[text.lower()]


def _host(text: str) -> str:
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


def _traffic_address(text: str) -> ListenAddress:
    address = listen_address(text.removeprefix("https://"))
    return replace(address, tls=text.startswith("https://"))


def _upstream_address(text: str) -> UpstreamAddress:
    if text.startswith("unix:"):
        return UpstreamAddress(path=_socket_path(text.removeprefix("unix:")))
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


def _word(text: str) -> str:
    if not text:
        raise ValueError("is empty")
    if not text.isascii() or not text.isprintable():
        raise ValueError("has characters beyond printable ASCII")
    if len(text) > MAX_WORD_CHARS:
        raise ValueError(f"is longer than {MAX_WORD_CHARS} characters")
    return text


def _url_path(text: str) -> str:
    if not _word(text).startswith("/"):
        raise ValueError("does not begin with /")
    if " " in text or "#" in text:
        raise ValueError("is not percent-encoded")
    return text


def _file_path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("is not a path")
    return text


def _socket_path(text: str) -> str:
    if len(_file_path(text).encode(errors="surrogateescape")) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"is longer than the {MAX_SOCKET_PATH_BYTES} bytes a Unix socket's path may have")
    return text


def _readiness(text: str) -> ReadinessOnDrain:
    if text in {"auto", "fail"}:
        return ReadinessOnDrain(text)
    if text.startswith("delay:"):
        return ReadinessOnDrain("delay", duration(text.removeprefix("delay:")))
    raise ValueError("is unknown")


def _show_readiness(value: ReadinessOnDrain) -> str:
    return f"delay:{show_duration(value.delay_s)}" if value.kind == "delay" else value.kind


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        meant = "has host bits set" if "host bits" in str(error) else "is not a network"
        raise ValueError(meant) from None


def _choice(*words: str) -> Kind:
    read = _matching("|".join(map(re.escape, words)), "is unknown")
    return Kind("|".join(words), f"one of {', '.join(words)}", read)


def _pattern(metavar: str, allowed: str, pattern: str) -> Kind:
    return Kind(metavar, allowed, _matching(pattern, "is not one"))


def _matching(pattern: str, wrong: str, make: Callable[[str], Any] = str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(wrong)
        return make(text)

    return read


def without_secrets(text: str) -> str:
    """Return a URL without its user, password and query: what is shown ends up in tickets and logs."""
    if "://" not in text:
        return text
    return _SECRETS.sub(lambda match: "***@" if match[0].endswith("@") else "?***", text)


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) <= 65535:
        raise ValueError("is not a port")
    return int(text)


def _total(allowed: str) -> Kind:
    return Kind("SIZE", allowed, lambda text: _size(text, MAX_TOTAL_BYTES), _show_size)


_EXAMPLES = "such as 500ms, 30s, 2m or 1h"
_ADDRESS = Kind("HOST:PORT", "HOST:PORT, [IPV6]:PORT or :PORT for every address", listen_address)
_TRAFFIC = Kind(
    "[https://]HOST:PORT", f"{_ADDRESS.allowed}, with https:// before it for TLS", _traffic_address
)
_UPSTREAM = Kind(
    "URL", "http://HOST:PORT, https://HOST:PORT, tcp://HOST:PORT or unix:/PATH", _upstream_address
)
_READINESS = Kind(
    "auto|fail|delay:DURATION", "auto, fail or delay:30s with your duration", _readiness, _show_readiness
)

_BY_TYPE: dict[Any, Kind] = {
    float: Kind("DURATION", f"a duration up to 24h {_EXAMPLES}", duration, show_duration),
    int: Kind("COUNT", f"a whole number from 1 to {MAX_COUNT}", _count),
    bool: Kind("true|false", "true or false", _switch, lambda on: str(on).lower()),
    str: Kind("TEXT", f"printable ASCII, at most {MAX_WORD_CHARS} characters", _word),
    ListenAddress: _ADDRESS,
    UpstreamAddress: _UPSTREAM,
    ReadinessOnDrain: _READINESS,
}

_FILE = Kind("FILE", "the path of a file", _file_path)
_QUANTITY = _pattern(
    "QUANTITY", "a quantity such as 10m, 500m, 64Mi or 1Gi", r"[0-9]{1,9}(\.[0-9]{1,3})?(m|k|M|G|Ki|Mi|Gi)?"
)
_RATIO = _matching(r"0(\.[0-9]{1,9})?|1(\.0{1,9})?", "is not a ratio", float)
_POSITIVE = Kind(
    "DURATION", f"a duration above 0s and up to 24h {_EXAMPLES}", positive_duration, show_duration
)

_BY_ENDING: tuple[tuple[Any, str | tuple[str, ...], Kind], ...] = (
    (float, ("_timeout", "_idle", "_cooldown", "_age", "_period"), _POSITIVE),
    (int, "_body_bytes", _total("bytes such as 65536, 64KiB, 10MiB or 1GiB")),
    (int, "_buffer_bytes", _total("bytes such as 16MiB or 1GiB")),
    (int, "_close_code", Kind("CODE", "1000, 1001, 1012, 1013 or one from 3000 to 4999", _close_code)),
    (int, "_bytes", Kind("SIZE", "bytes up to 16MiB such as 65536, 64KiB or 1MiB", _size, _show_size)),
    (int, "port", Kind("PORT", "a port from 1 to 65535", _port)),
    (str, "ports", _pattern("NAME", "names of container ports, comma-separated", "[a-z0-9-]{1,15}")),
    (str, "upstream_host", Kind("HOST", "localhost, pod, or an IP address", _host)),
    (str, "_env", _pattern("NAME", "an environment variable's name", "[A-Za-z_][A-Za-z0-9_]{0,255}")),
    (str, "_map", _pattern("NAME", "a ConfigMap's name", "[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")),
    (str, "_user", _pattern("UID", "a user's number above 0, or null", "[1-9][0-9]{0,9}|null")),
    (str, ("_request", "_limit"), _QUANTITY),
    (str, "_path", Kind("/PATH", "a percent-encoded path such as /healthz", _url_path)),
    (ListenAddress, "listen", _TRAFFIC),
    (str, "trusted_proxies", Kind("NETWORK", "a network such as 10.0.0.0/8 or 2001:db8::/32", _network)),
    (str, "_socket", Kind("FILE", "the path of a Unix socket, or @NAME for an abstract one", _socket_path)),
    (float, "_ratio", Kind("RATIO", "a number from 0 to 1 such as 0.05", _RATIO, "{:g}".format)),
    (
        str,
        "_endpoint",
        Kind(
            "URL",
            "an http:// or https:// URL with its path",
            _matching(r"https?://[!-~]{1,2000}", "is not one"),
            without_secrets,
        ),
    ),
    (str, ("_certificate", "_key", "_ca", "_log", "_credentials", "config", "routes"), _FILE),
    (str, "propagation", _choice(*PRESETS)),
)
"""Where a type has several ways of writing, a name's ending tells them apart."""


def kind_of(name: str, type_: Any) -> Kind:
    """Return how a field of this name and type (never optional, never a tuple) is written."""
    if get_origin(type_) is Literal:
        return _choice(*get_args(type_))
    for of, endings, kind in _BY_ENDING:
        if of is type_ and name.endswith(endings):
            return kind
    return _BY_TYPE[type_]
