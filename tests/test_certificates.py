"""Certificates are as new as their files, and never worse than they were."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest

from drainproxy import certificates
from drainproxy.certificates import Certificates, Files, Rotation
from drainproxy.errors import CertificateError
from drainproxy.metrics import Metrics
from tests.support.wire import PATIENCE_S

if TYPE_CHECKING:
    from tests.support.authority import Authority


def _shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost") -> ssl.SSLObject:
    """Shake hands in memory; return the client's side."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name)
    theirs = server.wrap_bio(up, down, server_side=True)
    for side in (ours, theirs, ours, theirs, ours):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ours


def _name(shaken: ssl.SSLObject) -> str:
    certificate = shaken.getpeercert()
    assert certificate is not None
    return certificate["subjectAltName"][0][1]


class _Lines(asyncio.Queue):
    """A Log to wait at."""

    def event(self, event: str, /, level: str = "info", **fields) -> None:
        self.put_nowait({"event": event, "level": level, **fields})

    async def next(self) -> dict:
        async with asyncio.timeout(PATIENCE_S):
            return await self.get()


def _server(authority: Authority, name: str = "localhost", **how) -> Certificates:
    certificate, key = authority.issue(name, **how)
    return Certificates(Files(certificate=str(certificate), key=str(key)), certificates.for_clients)


def test_a_handshake_is_at_least_1_2_and_speaks_http_1_1(authority):
    server = _server(authority)
    ours = authority.trusted()
    assert _shake(server.context, ours).selected_alpn_protocol() == "http/1.1"
    assert server.context.minimum_version == ssl.TLSVersion.TLSv1_2 == ours.minimum_version


def test_without_an_authority_of_its_own_a_peer_is_not_believed(authority):
    server = _server(authority)
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake(server.context, certificates.for_upstream(Files()))
    assert _shake(server.context, certificates.for_upstream(Files(), verify=False)).version()


@pytest.mark.parametrize(("client", "shaken"), [("optional", True), ("required", False)])
def test_a_client_without_a_certificate_passes_where_it_is_optional(authority, client, shaken):
    certificate, key = authority.issue()
    files = Files(certificate=str(certificate), key=str(key), authorities=str(authority.file))
    server = certificates.for_clients(files, client)
    ours = authority.trusted()
    # TLS 1.3 tells a client only after its own handshake is done.
    ours.maximum_version = ssl.TLSVersion.TLSv1_2
    if shaken:
        assert _shake(server, ours).version() == "TLSv1.2"
    else:
        with pytest.raises(ssl.SSLError):
            _shake(server, ours)


@pytest.mark.parametrize("days", [0.01, 30, 365 * 40])
def test_the_end_of_a_certificate_is_what_openssl_says(authority, days):
    server = _server(authority, days=days)
    said = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(server._files.certificate)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    end = datetime.strptime(said.strip(), "notAfter=%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    assert server.expires_at == end.timestamp() > time.time()


@pytest.mark.parametrize("how", ["missing", "not PEM", "half", "key of another", "encrypted key"])
def test_what_cannot_be_used_is_said_in_one_line(authority, tmp_path, how):
    certificate, key = authority.issue()
    files = Files(certificate=str(certificate), key=str(key))
    if how == "missing":
        key.unlink()
    elif how == "not PEM":
        certificate.write_bytes(b"\0\xff hello")
    elif how == "half":
        certificate.write_bytes(certificate.read_bytes()[:300])
    elif how == "key of another":
        other = tmp_path / "other"
        other.mkdir()
        key.write_bytes(authority.issue(into=other)[1].read_bytes())
    else:
        command = ["openssl", "ec", "-aes256", "-passout", "pass:secret", "-in", str(key), "-out", str(key)]
        subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(CertificateError) as refused:
        Certificates(files, certificates.for_clients)
    assert str(key if how == "missing" else certificate) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_new_certificate_is_used_by_the_next_handshake(authority):
    ours = authority.trusted()
    server = _server(authority, "one.test")
    assert _name(_shake(server.context, ours, "one.test")) == "one.test"
    authority.issue("two.test")
    server.reload()
    assert _name(_shake(server.context, ours, "two.test")) == "two.test"


@pytest.mark.parametrize("how", ["broken", "expired", "gone", "changing"])
def test_a_worse_certificate_never_replaces_a_good_one(authority, how):
    server = _server(authority, "one.test")
    good, expires_at = server.context, server.expires_at
    certificate = authority.issue("two.test", days=-1 if how == "expired" else 30)[0]
    if how == "broken":
        certificate.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    elif how == "gone":
        certificate.unlink()
    elif how == "changing":
        made = server._make
        server._make = lambda files: (made(files), authority.issue("three.test"))[0]
    with pytest.raises(CertificateError):
        server.reload()
    assert (server.context, server.expires_at) == (good, expires_at)


async def test_an_expired_certificate_is_better_than_none_at_the_start(authority):
    expired = _server(authority, days=-1)
    log, metrics = _Lines(), Metrics()
    used = Rotation(metrics, log).add("test", expired._files, certificates.for_clients)
    assert used.left_s < 0
    assert (await log.next())["problem"] == "it has expired"
    metrics.before_scrape[0]()
    assert metrics.certificate_expiry_seconds.value("test") < 0


async def test_a_swapped_symlink_is_seen_and_an_unchanged_file_is_left_alone(authority, tmp_path):
    # What a kubelet does: ..data points to a directory, and is renamed over.
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        authority.issue(f"{version}.test", into=tmp_path / version)
    data = tmp_path / "..data"
    data.symlink_to("one")
    files = Files(certificate=str(data / "tls.crt"), key=str(data / "tls.key"))
    log = _Lines()
    rotation = Rotation(Metrics(), log)
    server = rotation.add("test", files, certificates.for_clients)
    watching = asyncio.create_task(rotation.watch(every_s=0.01))
    try:
        first = server.context
        (tmp_path / "..tmp").symlink_to("two")
        (tmp_path / "..tmp").rename(data)
        assert (await log.next())["days_left"] > 29
        assert server.context is not first
        (data / "tls.crt").write_text("nothing")
        line = await log.next()
        assert line["kept"]
        assert "tls.crt" in line["problem"]
        # Told once, not at every look.
        await asyncio.sleep(0.1)
        assert log.empty()
        assert rotation._metrics.certificate_reloads.values == {("ok",): 1, ("failed",): 1}
    finally:
        watching.cancel()
        await asyncio.wait([watching])


def test_the_client_context_may_have_a_certificate_of_its_own(authority):
    certificate, key = authority.issue("caller.test")
    own = Files(certificate=str(certificate), key=str(key), authorities=str(authority.file))
    server = certificates.for_clients(own, "required")
    assert _name(_shake(server, certificates.for_upstream(own), "caller.test")) == "caller.test"
    made = Certificates(own, partial(certificates.for_upstream, verify=False))
    assert made.context.verify_mode is ssl.CERT_NONE
