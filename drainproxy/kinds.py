"""The kinds of settings: each is a type, and says how its values are written, bounded, read and shown.

A settings class annotates its fields with them (`linger: Duration = 0.5`); to the type checker that is a
float. A Literal is a kind by itself, `tuple[Port, ...]` a list, `X | None` may be missing, and `OrOff[X]` can
be switched off by that word. What belongs to one room alone is declared there. Read by settings.py and
routefile.py.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

from drainproxy import values
from drainproxy.addresses import ListenAddress, UpstreamAddress


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of writing a value."""

    metavar: str
    allowed: str
    """Completes "write ..."."""
    read: Callable[[str], Any]
    """Raises ValueError with the rest of a sentence that begins with the bad text."""
    show: Callable[[Any], str] = str


def choice(words: Iterable[str]) -> Kind:
    """Return the kind of a word out of a closed set."""
    words = tuple(words)
    read = values.matching("|".join(map(re.escape, words)), "is unknown")
    allowed = " or ".join(words) if len(words) == 2 else f"one of {', '.join(words)}"
    return Kind("|".join(words), allowed, read)


def _pattern(metavar: str, allowed: str, pattern: str) -> Kind:
    return Kind(metavar, allowed, values.matching(pattern, "is not one"))


_EXAMPLES = "such as 500ms, 30s, 1m30s or 1h"
_LISTEN = "HOST:PORT, [IPV6]:PORT or :PORT for every address"

Duration = Annotated[
    float, Kind("DURATION", f"a duration up to 24h {_EXAMPLES}", values.duration, values.show_duration)
]
PositiveDuration = Annotated[
    float,
    Kind(
        "DURATION",
        f"a duration above 0s and up to 24h {_EXAMPLES}",
        values.positive_duration,
        values.show_duration,
    ),
]
Ratio = Annotated[float, Kind("RATIO", "a number from 0 to 1 such as 0.05", values.ratio, "{:g}".format)]

Count = Annotated[int, Kind("COUNT", f"a whole number from 1 to {values.MAX_COUNT}", values.count)]
Places = Annotated[int, Kind("COUNT", f"a whole number from 1 to {values.MAX_PLACES}", values.places)]
Size = Annotated[
    int, Kind("SIZE", "bytes up to 16MiB such as 65536, 64KiB or 1MiB", values.size, values.show_size)
]
"""Of what one connection holds."""
TotalSize = Annotated[
    int, Kind("SIZE", "bytes such as 65536, 64KiB, 10MiB or 1GiB", values.total_size, values.show_size)
]
"""Of what passes through, or of what all connections hold together."""
Port = Annotated[int, Kind("PORT", "a port from 1 to 65535", values.port)]
CloseCode = Annotated[int, Kind("CODE", "1000, 1001, 1012, 1013 or one from 3000 to 4999", values.close_code)]

Switch = Annotated[bool, Kind("true|false", "true or false", values.switch, lambda on: str(on).lower())]

_WARM = Kind(
    "STATUS|DURATION",
    "a status such as 200, or a duration such as 20ms",
    values.warm_until,
    values.show_until,
)
WarmUntil = Annotated[float, _WARM]

Text = Annotated[
    str, Kind("TEXT", f"printable ASCII, at most {values.MAX_WORD_CHARS} characters", values.word)
]
UrlPath = Annotated[str, Kind("/PATH", "a percent-encoded path such as /healthz", values.url_path)]
File = Annotated[str, Kind("FILE", "the path of a file", values.file_path)]
Directory = Annotated[str, Kind("DIRECTORY", "the path of a directory", values.file_path)]
SocketFile = Annotated[
    str, Kind("FILE", "the path of a Unix socket, or @NAME for an abstract one", values.socket_path)
]
Endpoint = Annotated[
    str,
    Kind(
        "URL",
        "an http:// or https:// URL with its path",
        values.matching(r"https?://[!-~]{1,2000}", "is not one"),
        values.without_secrets,
    ),
]

Address = Annotated[ListenAddress, Kind("HOST:PORT", _LISTEN, values.listen_address)]
TrafficAddress = Annotated[
    ListenAddress,
    Kind("[https://]HOST:PORT", f"{_LISTEN}, with https:// before it for TLS", values.traffic_address),
]
Upstream = Annotated[
    UpstreamAddress,
    Kind(
        "URL", "http://HOST:PORT, https://HOST:PORT, tcp://HOST:PORT or unix:/PATH", values.upstream_address
    ),
]
Host = Annotated[str, Kind("HOST", "localhost, pod, or an IP address", values.host)]
IpAddress = Annotated[str, Kind("ADDRESS", "an IP address", values.ip_address)]
LoopbackAddress = Annotated[
    str, Kind("ADDRESS", "an address of 127.0.0.0/8 such as 127.0.0.6", values.loopback_address)
]
Network = Annotated[str, Kind("NETWORK", "a network such as 10.0.0.0/8 or 2001:db8::/32", values.network)]

# Of a pod's spec, for annotations.
ContainerPort = Annotated[
    str,
    Kind(
        "NAME|PORT", "names or numbers of container ports, comma-separated, in quotes", values.container_port
    ),
]
EnvName = Annotated[str, _pattern("NAME", "an environment variable's name", "[A-Za-z_][A-Za-z0-9_]{0,255}")]
ConfigMapName = Annotated[str, _pattern("NAME", "a ConfigMap's name", "[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")]
UserId = Annotated[str, _pattern("UID", "a user's number above 0, or null", "[1-9][0-9]{0,9}|null")]
Quantity = Annotated[
    str,
    _pattern(
        "QUANTITY",
        "a quantity such as 10m, 500m, 64Mi or 1Gi",
        r"[0-9]{1,9}(\.[0-9]{1,3})?(m|k|M|G|Ki|Mi|Gi)?",
    ),
]

_T = TypeVar("_T")
_OFF = object()
OrOff = Annotated[_T | None, _OFF]
"""A time-out or a limit that need not be there: `off` is None. Other optional fields have no such word."""


class Meaning(NamedTuple):
    """What a field's annotation says of its values."""

    kind: Kind
    many: bool
    """A list of them."""
    may_be_off: bool


def meaning(annotation: Any) -> Meaning:
    """Take a field's annotation apart, as `get_type_hints(..., include_extras=True)` has it."""
    may_be_off = _OFF in getattr(annotation, "__metadata__", ())
    if may_be_off:
        annotation = annotation.__origin__
    if get_origin(annotation) in {Union, UnionType}:
        (annotation,) = (each for each in get_args(annotation) if each is not NoneType)
    many = get_origin(annotation) is tuple
    if many:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is Literal:
        return Meaning(choice(get_args(annotation)), many, may_be_off)
    for each in getattr(annotation, "__metadata__", ()):
        if isinstance(each, Kind):
            return Meaning(each, many, may_be_off)
    raise TypeError(f"{annotation} is no kind of setting: see drainproxy/kinds.py")
