"""`helm test`: the pod's own script asks a real webhook."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import pytest

from tests.chart.rendering import documents, one
from tests.injector.test_server import Webhook
from tests.support.authority import Authority


def container(**certificates: str) -> dict:
    """The test's only container; the user is one of OpenShift's."""
    values = {
        "injection": {"mode": "webhook"},
        "certificates": certificates,
        "webhook": {"runAsUser": 1000650000},
    }
    found = documents(values)
    (tester,) = one(found, "Pod")["spec"]["containers"]
    (webhook,) = one(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert tester["securityContext"]["runAsUser"] == webhook["securityContext"]["runAsUser"] == 1000650000
    return tester


async def verdict(tester: dict, url: str, authority: str) -> tuple[int, str]:
    """Run its command against `url`; return the exit code and what it said."""
    (_, *words, _) = tester["command"]
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, *words, url),
        env=os.environ | {"CA": authority},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, said.decode()


@pytest.fixture
async def url(tmp_path):
    """Where a webhook listens whose authority is in tmp_path."""
    made = Webhook(tmp_path)
    try:
        await made.start()
        yield made.url
    finally:
        with contextlib.suppress(ProcessLookupError):
            made.process.kill()
        await made.process.wait()
        await made._reading


async def test_it_passes_before_a_webhook_and_fails_before_anything_else(url, tmp_path):
    """A certificate of the named authority is asked for, and one of another is not enough."""
    own = (tmp_path / "authority.pem").read_text()
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").file.read_text()
    assert await verdict(container(), url, own) == (0, "")
    code, said = await verdict(container(), url, other)
    assert code == 1
    assert "CERTIFICATE_VERIFY_FAILED" in said


def test_the_authority_is_known_from_whatever_source():
    """A Secret of one's own need not hold it: the value does."""
    (made,) = container(source="self-signed")["env"]
    assert made["valueFrom"]["secretKeyRef"]["key"] == "ca.crt"
    (given,) = container(source="secret", secretName="own", caBundle="PEM")["env"]
    assert given == {"name": "CA", "value": "PEM"}
