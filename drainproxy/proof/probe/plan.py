"""Plan: what one probe shall do, checked. Made from the command line by `main.py`, read by all others."""

import argparse
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from drainproxy.proof.client import Address, Request
from drainproxy.proof.durations import duration

MAX_RATE = 2_000.0  # beyond it one Python process measures itself, not the service
MAX_DURATION_S = 3_600.0  # bounds the memory of the latencies
DEFAULT_DURATION_S = 30.0
DEFAULT_DURATION_WITH_COMMAND_S = 900.0  # longer than a Deployment's progressDeadlineSeconds (600 s)


@dataclass(frozen=True, slots=True)
class Plan:
    url: str
    address: Address
    tls: ssl.SSLContext | None
    request: Request
    rate: float  # requests a second
    duration_s: float
    timeout_s: float
    connections: str  # keep-alive, new or mix
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    url: str  # for reports: without a password
    address: Address
    host: str  # as the Host field says it
    path: str
    secure: bool


def target(text: str) -> Target:
    """An argparse type: http and https URLs, `host:port/path` being http."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    secure = parts.scheme == "https"
    try:
        port = (443 if secure else 80) if parts.port is None else parts.port
    except ValueError:
        port = 0
    if not port:
        raise argparse.ArgumentTypeError(f"{text!r} has no valid port")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not an http or https URL")
    host = parts.netloc.rpartition("@")[2]
    if not _plain(host):
        raise argparse.ArgumentTypeError(f"{text!r} has a host that is not written in ASCII (xn--...)")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _plain(path):
        raise argparse.ArgumentTypeError(f"{text!r} has a path that is not percent-encoded")
    return Target(
        url=parts._replace(netloc=host).geturl(),
        address=(parts.hostname, port),
        host=host,
        path=path,
        secure=secure,
    )


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def span(text: str) -> float:
    """An argparse type: seconds of a measurement, or of a caller's patience."""
    seconds = duration(text)
    if not 0.001 <= seconds <= MAX_DURATION_S:
        raise argparse.ArgumentTypeError(f"a time of the probe lies between 1ms and 1h, not {text!r}")
    return seconds


def rate(text: str) -> float:
    """An argparse type: requests a second, above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.1 <= value <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"a rate lies between 0.1 and {MAX_RATE:g} a second")
    return value


def field(text: str) -> tuple[str, str]:
    """An argparse type: `Name: value` of a request field."""
    name, colon, value = text.partition(":")
    value = value.strip()
    if not colon or not name.replace("-", "").replace("_", "").isalnum() or not value.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 'Name: value'")
    if not name.isascii() or max(value, default="") > "\xff":
        raise argparse.ArgumentTypeError(f"{text!r} has letters that no field can carry")
    if name.lower() in ("host", "content-length", "transfer-encoding", "connection"):
        raise argparse.ArgumentTypeError(f"{name} is set by the probe itself")
    return name, value
