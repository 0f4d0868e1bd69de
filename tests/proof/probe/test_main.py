"""The whole probe as a person runs it: a process, its exit code and its words."""

import asyncio
import json
import signal
import sys

import pytest

from tests.proof.scripted import Conversation, closed_port, for_ever_ok, serve

QUICK = ("--rate", "100", "--duration", "200ms")


async def probe(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drainproxy", "probe", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def url(address: tuple[str, int]) -> str:
    return f"http://{address[0]}:{address[1]}/"


async def test_nothing_lost_is_exit_0():
    """A good service: one sentence says so."""
    async with serve(for_ever_ok) as address:
        code, out, err = await probe(url(address), *QUICK)
    assert (code, err) == (0, "")
    assert "None of 20 requests was lost." in out
    assert "\x1b" not in out


async def test_one_lost_is_exit_1_and_each_is_named():
    """A service that is down: every loss with its time, kind and error."""
    code, out, _ = await probe(url(closed_port()), *QUICK)
    assert code == 1
    assert "20 of 20 requests were lost." in out
    assert out.count("lost refused connection refused") == 20
    # A machine that stands still for a moment makes two rows of one.
    rows = [
        line.split() for line in out.splitlines() if line.rstrip().endswith("refused   connection refused")
    ]
    assert sum(int(row[2]) for row in rows) == 20


async def test_json_is_for_machines():
    """Standard output is one JSON document, the words go to standard error."""
    code, out, err = await probe(url(closed_port()), *QUICK, "--json")
    document = json.loads(out)
    assert code == 1
    assert (document["requests"], document["lost"], document["lost_by_kind"]["refused"]) == (20, 20, 20)
    assert len(document["losses"]) == 20
    assert {"at", "after_s", "kind", "error"} <= document["losses"][0].keys()
    assert "20 of 20" in err


async def test_a_command_is_shown_and_its_exit_code_reported():
    """The probe's own exit code is about requests; the command's is told."""
    script = "import sys; print('rolling'); sys.exit(3)"
    async with serve(for_ever_ok) as address:
        code, out, _ = await probe(url(address), *QUICK, "--", sys.executable, "-c", script)
    assert code == 0
    assert "| rolling" in out
    assert "exit code 3 after" in out


async def test_a_command_that_does_not_start_is_named_as_it_was_written():
    """What looks like a tag of the console's is none."""
    code, out, err = await probe("http://127.0.0.1:9/", "--", "[/no]such")
    assert (code, err) == (64, "")
    assert "cannot run [/no]such: No such file or directory" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_ended_probe_says_what_it_measured_and_leaves_no_command(number):
    """A job that is cancelled gets its numbers, and no rollout goes on unseen."""
    left = asyncio.Event()
    script = (
        "import socket, sys; gate = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        "print('rolling', flush=True); gate.recv(1)"
    )

    async def gate(talk: Conversation) -> None:
        await talk.client_left()
        left.set()

    async with serve(for_ever_ok) as address, serve(gate) as (_, port):
        words = (url(address), "--", sys.executable, "-c", script, str(port))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "drainproxy", "probe", *words), stdout=asyncio.subprocess.PIPE
        )
        while b"| rolling" not in await process.stdout.readline():
            pass
        process.send_signal(number)
        said = await process.stdout.read()
        await left.wait()
    assert await process.wait() == 0
    assert b"this is what was measured until then" in said
    assert b"requests was lost." in said or b"Nothing was measured." in said


@pytest.mark.parametrize(
    "words",
    [
        ("ftp://x/",),
        ("http://x/", "--rate", "0"),
        ("http://x/", "--duration", "30"),
        ("http://127.0.0.1:9/", "--", "/no/such/command"),
    ],
)
async def test_what_cannot_begin_is_exit_64(words):
    """A mistake on the command line is told apart from a lost request."""
    code, _, _ = await probe(*words)
    assert code == 64


async def test_kubectl_is_told_the_cluster_that_the_probe_is_told(tmp_path):
    """As a plugin's user expects; the questions about the rollout go there, too."""
    kubectl, told = tmp_path / "kubectl", tmp_path / "told"
    kubectl.write_text(f'#!/bin/sh\necho "$@" >> {told}\n')
    kubectl.chmod(0o755)
    where = ("-n", "shop", "--context", "prod", "--kubeconfig", "/a/file")
    async with serve(for_ever_ok) as address:
        await probe(url(address), *QUICK, *where, "--", str(kubectl), "rollout", "restart", "deploy/web")
    lines = told.read_text().splitlines()
    assert "--namespace=shop --context=prod --kubeconfig=/a/file rollout restart deploy/web" in lines
    asked = [line for line in lines if line.startswith("get ")]
    assert asked
    for line in asked:
        assert "--namespace shop --context prod --kubeconfig /a/file" in line


@pytest.mark.parametrize("command", [(), ("--", "true")], ids=["none", "another"])
async def test_a_cluster_without_kubectl_is_refused(command):
    """It would be believed that it was heard."""
    async with serve(for_ever_ok) as address:
        code, _, err = await probe(url(address), *QUICK, "--context", "prod", *command)
    assert code == 64
    assert "--context=prod is for a command that is kubectl" in err
