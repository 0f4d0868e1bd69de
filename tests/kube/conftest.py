"""A cluster in one file each: certificates are made once, credentials for each test."""

from __future__ import annotations

import pytest

from tests.kube.server import TOKEN
from tests.support.authority import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the API server's certificate."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def credentials(tmp_path, authority: Authority):
    """The directory that a ServiceAccount's projected volume would be mounted on."""
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "ca.crt").write_bytes(authority.file.read_bytes())
    return tmp_path
