"""A certificate authority of the test's own, and the files it hands out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trustme

from drainproxy import certificates
from drainproxy.certificates import Files

if TYPE_CHECKING:
    import ssl
    from pathlib import Path


class Authority:
    """Issues certificates into files below `directory`."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self._directory = directory
        self.file = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def trusted(self) -> ssl.SSLContext:
        """Return the context of a client that trusts whom it signs, and nobody else."""
        return certificates.for_upstream(Files(authorities=str(self.file)))

    def issue(
        self, name: str = "localhost", *, days: float = 30, into: Path | None = None
    ) -> tuple[Path, Path]:
        """Write certificate and key of `name`, good for so many days; return their paths."""
        now = datetime.now(UTC)
        leaf = self._ca.issue_cert(
            name,
            not_before=now - timedelta(days=400),
            not_after=now + timedelta(days=days),
            key_type=trustme.KeyType.ECDSA,
        )
        directory = into or self._directory
        certificate, key = directory / "tls.crt", directory / "tls.key"
        key.write_bytes(leaf.private_key_pem.bytes())
        certificate.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        return certificate, key
