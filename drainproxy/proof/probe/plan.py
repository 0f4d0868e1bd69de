"""Plan: what one probe shall do, checked. Made from the command line by `main.py`, read by all others."""

import argparse
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from drainproxy.proof.client import Address, Request

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
    url: str
    address: Address
    host: str  # as the Host field says it
    path: str
    secure: bool


def target(text: str) -> Target:
    """An argparse type: http and https URLs, `host:port/path` being http."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} has no valid port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not an http or https URL")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not (path.isascii() and path.isprintable() and " " not in path):
        raise argparse.ArgumentTypeError(f"{text!r} has a path that is not percent-encoded")
    secure = parts.scheme == "https"
    return Target(
        url=parts.geturl(),
        address=(parts.hostname, port or (443 if secure else 80)),
        host=parts.netloc.rpartition("@")[2],
        path=path,
        secure=secure,
    )


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
    if name.lower() in ("host", "content-length", "transfer-encoding", "connection"):
        raise argparse.ArgumentTypeError(f"{name} is set by the probe itself")
    return name, value
