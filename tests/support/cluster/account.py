"""A ServiceAccount as a pod sees it: ca.crt, token, namespace, and where the server is."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

from tests.support.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.support.cluster.access import Rule
    from tests.support.cluster.server import ApiServer


class Account:
    """A subject with a token in a file."""

    def __init__(
        self,
        api: ApiServer,
        directory: Path,
        rules: Iterable[Rule] = (),
        *,
        name: str = "web",
        namespace: str = "shop",
        token: str = "first-token",
        authority: Path | None = None,
    ) -> None:
        """`authority`: the CA's file, of a server that speaks TLS."""
        self._api = api
        self.directory = directory
        self.namespace = namespace
        self.token = token
        directory.mkdir(parents=True, exist_ok=True)
        self.subject = api.access.admit(token, f"system:serviceaccount:{namespace}:{name}", rules)
        (directory / "namespace").write_text(namespace)
        (directory / "ca.crt").write_text(authority.read_text() if authority else "")
        self._write()

    def rotate(self, token: str, *, server_first: bool = False) -> None:
        """Replace the token, on the server and in the file; `server_first` leaves the old one in the file."""
        self._api.access.rotate(self.token, token)
        self.token = token
        if not server_first:
            self._write()

    def refresh(self) -> None:
        """Write the token that counts into the file, as the kubelet does some time later."""
        self._write()

    def _write(self) -> None:
        # Atomically, as the kubelet's writer does.
        fresh = self.directory / "..token"
        fresh.write_text(self.token)
        fresh.replace(self.directory / "token")

    def environment(self) -> dict[str, str]:
        """Return what every container is told about the API server."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self._api.door.port)}

    def kubeconfig(self) -> Path:
        """Write a kubeconfig with this token; return its path."""
        cluster: dict[str, str] = {"server": self._api.url}
        if (self.directory / "ca.crt").stat().st_size:
            cluster["certificate-authority"] = str(self.directory / "ca.crt")
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        file = self.directory / "kubeconfig"
        file.write_text(json.dumps(document))
        return file


def server_tls(directory: Path) -> tuple[ssl.SSLContext, Path]:
    """Return a server's TLS for 127.0.0.1, and the file of the CA that signed it."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = Authority(directory)
    certificate, key = authority.issue("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, authority.file
