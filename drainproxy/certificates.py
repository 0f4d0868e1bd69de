"""TLS contexts made of files, and made anew when the files change.

Whoever shakes hands asks for `context` each time, and so gets the newest one that could be made: what does
not load, or has expired, never replaces what works. Used by whatever speaks TLS, in whichever room.
"""

from __future__ import annotations

import contextlib
import math
import ssl
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from drainproxy.errors import CertificateError
from drainproxy.tasks import next_tick, sleep_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drainproxy.log import Log
    from drainproxy.metrics import Table

WATCH_EVERY_S = 10.0
"""A kubelet swaps a mounted secret's symlink without a word, a minute or so after the secret changed; asking
three files for their inode costs microseconds, and inotify would cost a dependency to save them."""

ClientCertificate = Literal["off", "optional", "required"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """PEM files. `certificate` is the chain, the leaf first; it comes with its `key`."""

    certificate: str | None = None
    key: str | None = None
    authorities: str | None = None
    """Who is believed about the other side's certificate."""

    def signature(self) -> tuple[object, ...]:
        """Return what differs once a file was changed or replaced, symlinks followed."""
        return tuple(_signature(path) for path in (self.certificate, self.key, self.authorities))


def for_clients(files: Files, client: ClientCertificate = "off", *, http2: bool = False) -> ssl.SSLContext:
    """Return the context for those who connect to us. Raises CertificateError.

    `http2`: it is offered (RFC 9113 section 3.2), and most clients will take it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if client != "off":
        context.verify_mode = ssl.CERT_REQUIRED if client == "required" else ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
    return _filled(context, files)


def for_upstream(files: Files, *, verify: bool = True, http2: bool = False) -> ssl.SSLContext:
    """Return the context for connections that we make; without `authorities` the system's are believed.

    Raises CertificateError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif files.authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    context.set_alpn_protocols(["h2" if http2 else "http/1.1"])
    return _filled(context, files)


def _filled(context: ssl.SSLContext, files: Files) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    context.options |= ssl.OP_NO_RENEGOTIATION
    for path in filter(None, (files.certificate, files.key, files.authorities)):
        # The ssl module does not say which file it is.
        with _blaming(path):
            Path(path).read_bytes()
    if files.certificate is not None:
        with _blaming(f"{files.certificate} with {files.key or 'its key'}"):
            # A password would be asked for at the terminal.
            context.load_cert_chain(files.certificate, files.key, password="")
    if files.authorities is not None:
        with _blaming(files.authorities):
            context.load_verify_locations(files.authorities)
    return context


@contextlib.contextmanager
def _blaming(what: str) -> Iterator[None]:
    """Turn what goes wrong with files into a CertificateError that names them."""
    try:
        yield
    except (OSError, ValueError, IndexError) as error:
        raise CertificateError(f"{what}: {reason(error)}") from None


class Certificates:
    """The files of one use, and the context made of them. Written by `reload`, on the loop's thread."""

    def __init__(self, files: Files, make: Callable[[Files], ssl.SSLContext]) -> None:
        """Raises CertificateError where they cannot be used; an expired certificate is used all the same."""
        self._files = files
        self._make = make
        self._seen = files.signature()
        self.context = make(files)
        self.expires_at = _expiry(files.certificate)
        """Unix time, `inf` without a certificate."""

    @property
    def left_s(self) -> float:
        """Seconds until the certificate expires; negative since it has."""
        return self.expires_at - time.time()

    def reload(self) -> None:
        """Take what the files hold now. Raises CertificateError, and goes on with what there was."""
        seen = self._seen = self._files.signature()
        context, expires_at = self._make(self._files), _expiry(self._files.certificate)
        if expires_at <= time.time():
            raise CertificateError(f"{self._files.certificate}: it has expired")
        if self._files.signature() != seen:
            raise CertificateError("the files changed while they were read")
        self.context, self.expires_at = context, expires_at

    def changed(self) -> bool:
        """Tell whether the files are others than at the last look."""
        return self._files.signature() != self._seen


class Rotation:
    """Every use of certificates in a process, kept as new as its files; log and metrics say how it goes."""

    def __init__(self, metrics: Table, log: Log) -> None:
        self._uses: dict[str, Certificates] = {}
        self._metrics = metrics
        self._log = log
        metrics.before_scrape.append(self._export)

    def add(self, use: str, files: Files, make: Callable[[Files], ssl.SSLContext]) -> Certificates:
        """Load the files for `use`, a label of the metrics. Raises CertificateError."""
        self._uses[use] = made = Certificates(files, make)
        for result in ("ok", "failed"):
            self._metrics.certificate_reloads.inc(result, by=0)
        if made.left_s <= 0:
            self._log.event("certificate", "error", used_for=use, problem="it has expired")
        return made

    def reload(self) -> None:
        """Read every file again (SIGHUP)."""
        for use, certificates in self._uses.items():
            self._reload(use, certificates)

    async def watch(self, every_s: float = WATCH_EVERY_S) -> None:
        """Read again what has changed, for ever (a service)."""
        while True:
            await sleep_until(next_tick(every_s))
            for use, certificates in self._uses.items():
                if certificates.changed():
                    self._reload(use, certificates)

    def _reload(self, use: str, certificates: Certificates) -> None:
        try:
            certificates.reload()
        except CertificateError as error:
            self._metrics.certificate_reloads.inc("failed")
            self._log.event("certificate", "error", used_for=use, kept=True, problem=str(error))
        else:
            self._metrics.certificate_reloads.inc("ok")
            days = None if certificates.expires_at == math.inf else round(certificates.left_s / 86400, 1)
            self._log.event("certificate", used_for=use, days_left=days)

    def _export(self) -> None:
        for use, certificates in self._uses.items():
            if certificates.expires_at < math.inf:
                self._metrics.certificate_expiry_seconds.set(certificates.left_s, use)


def reason(error: Exception) -> str:
    """Return why something with TLS failed, in few words that say nothing of the other side's making."""
    if isinstance(error, ssl.SSLError):
        if verdict := getattr(error, "verify_message", None):
            return str(verdict)
        return str(getattr(error, "reason", None) or "it holds nothing of the kind").lower().replace("_", " ")
    return (getattr(error, "strerror", None) or str(error)).lower()


def _signature(path: str | None) -> object:
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError as error:
        return error.errno
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


def _expiry(path: str | None) -> float:
    """Return when the first certificate of a PEM file expires, in Unix time. Raises CertificateError."""
    if path is None:
        return math.inf
    begin, end = ssl.PEM_HEADER, ssl.PEM_FOOTER
    with _blaming(path):
        text = Path(path).read_text("ascii", "replace")
        leaf = text.partition(begin)[2].partition(end)[0]
        return _not_after(ssl.PEM_cert_to_DER_cert(begin + leaf + end))


def _not_after(der: bytes) -> float:
    """Return a certificate's end (RFC 5280 section 4.1): what the ssl module tells of others' only."""
    # Certificate { TBSCertificate { [0] version, serial, signature, issuer, Validity { notBefore, notAfter
    at = _inside(der, _inside(der, 0))
    if der[at] == 0xA0:
        at = _after(der, at)
    for _ in range(3):
        at = _after(der, at)
    not_after = _after(der, _inside(der, at))
    said = der[_inside(der, not_after) : _after(der, not_after)].decode("ascii")
    year = "%y" if der[not_after] == 0x17 else "%Y"  # UTCTime or GeneralizedTime
    return datetime.strptime(said, f"{year}%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _inside(der: bytes, at: int) -> int:
    """Return where the value of the DER element at `at` begins."""
    return at + 2 + (der[at + 1] & 0x7F if der[at + 1] & 0x80 else 0)


def _after(der: bytes, at: int) -> int:
    """Return where the element behind the one at `at` begins."""
    begin = _inside(der, at)
    length = der[at + 1]
    return begin + (int.from_bytes(der[at + 2 : begin]) if length & 0x80 else length)
