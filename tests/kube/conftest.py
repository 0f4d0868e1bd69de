"""A cluster in one file each: certificates are made once, credentials for each test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from drainproxy.eventloop import Loop
from tests.kube.server import TOKEN
from tests.support.authority import Authority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Name the loops; the standard one, where a test names none."""
    loops = {"asyncio": asyncio.new_event_loop, "uvloop": Loop}
    marked = item.get_closest_marker("asyncio")
    return loops if marked and "loop_factories" in marked.kwargs else {"asyncio": loops["asyncio"]}


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
