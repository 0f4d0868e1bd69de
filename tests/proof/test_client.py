"""The counting client against servers that answer, cut, reset, refuse and fall silent."""

import asyncio
import ssl

import pytest

from drainproxy.proof.client import Address, Client, Request
from drainproxy.proof.outcomes import Kind, Outcome
from tests.proof.scripted import (
    OK,
    OK_CLOSE,
    Conversation,
    answering,
    closed_port,
    for_ever_ok,
    resetting,
    serve,
    silent,
)

GET = Request(method="GET", path="/", host="test")
POST = Request(method="POST", path="/", host="test", parts=(b"one", b"two"))


def client_of(address: Address, *, keep_alive: bool = True, timeout_s: float = 10.0) -> Client:
    return Client(choose=lambda: address, keep_alive=keep_alive, timeout_s=timeout_s)


async def only(address: Address, request: Request = GET, *, timeout_s: float = 10.0) -> Outcome:
    client = client_of(address, timeout_s=timeout_s)
    try:
        return await client.send(request)
    finally:
        client.close()


async def test_a_request_is_sent_as_it_is_written():
    """The bytes on the wire: request line, Host, own fields, chunks, and nothing else."""
    heard: list[bytes] = []

    async def script(talk: Conversation) -> None:
        heard.append(await talk.until(b"0\r\n\r\n"))
        talk.say(OK)

    request = Request(
        method="POST", path="/a?b=%20", host="test:1", fields=(("K", "v"),), parts=(b"one", b"t")
    )
    async with serve(script) as address:
        outcome = await only(address, request)
    assert outcome.status == 200
    head, _, body = heard[0].partition(b"\r\n\r\n")
    assert head == b"POST /a?b=%20 HTTP/1.1\r\nHost: test:1\r\nK: v\r\nTransfer-Encoding: chunked"
    assert body == b"3\r\none\r\n1\r\nt\r\n0\r\n\r\n"


async def test_a_post_without_a_body_says_so():
    """A POST without content announces a length of zero (RFC 9110 section 8.6)."""
    assert Request(method="POST", path="/", host="h").head() == (
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    )


async def test_a_kept_connection_is_used_again():
    """One connection carries one request after the other."""
    async with serve(answering(OK, OK, OK), resetting()) as address:
        client = client_of(address)
        outcomes = [await client.send(GET) for _ in range(3)]
        client.close()
    assert [outcome.lost for outcome in outcomes] == [False, False, False]


async def test_a_client_of_new_connections_never_reuses():
    """Without keep-alive each request dials, and the connection is closed after the answer."""
    left: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(talk: Conversation) -> None:
        await talk.head()
        talk.say(OK)
        left.put_nowait(await talk.client_left())

    async with serve(script) as address:
        client = client_of(address, keep_alive=False)
        assert not (await client.send(GET)).lost
        assert not (await client.send(GET)).lost
        assert [await left.get(), await left.get()] == [b"", b""]


async def test_a_refused_connection_is_refused():
    """Nobody listens: the one kind where no byte was ever exchanged."""
    outcome = await only(closed_port())
    assert outcome.kind is Kind.REFUSED


async def test_a_name_whose_every_address_refuses_is_refused():
    """localhost may have two addresses, and asyncio an error of both."""
    outcome = await only(("localhost", closed_port()[1]))
    assert (outcome.kind, outcome.error) == (Kind.REFUSED, "connection refused")


async def test_a_name_that_does_not_exist_is_unreachable():
    """No address is not a refusal: the service was not even asked."""
    outcome = await only(("no-such-host.invalid", 80))
    assert outcome.kind is Kind.UNREACHABLE


@pytest.mark.parametrize("name", ["a..b", "a" * 64 + ".invalid"])
async def test_what_cannot_be_a_name_is_unreachable(name):
    """The resolver is not even asked: it is no error of the program."""
    assert (await only((name, 80))).kind is Kind.UNREACHABLE


@pytest.mark.parametrize("request_", [GET, POST])
@pytest.mark.parametrize("script", [answering(b""), resetting(b"")])
async def test_a_first_request_without_an_answer_is_lost_as_reset(script, request_):
    """On a fresh connection nothing is retried: the request itself may have broken the server."""
    async with serve(script, for_ever_ok) as address:
        outcome = await only(address, request_)
    assert (outcome.kind, outcome.retried) == (Kind.RESET, False)


async def test_an_answer_cut_short_is_truncated():
    """A length that is not reached is a loss, whether the end is polite or not."""
    for script in (answering(OK[:-1]), resetting(OK[:-1])):
        async with serve(script) as address:
            assert (await only(address)).kind is Kind.TRUNCATED


async def test_a_server_error_is_lost_and_keeps_its_status():
    """A complete 503 is no good answer, and is not confused with a broken one."""
    async with serve(answering(b"HTTP/1.1 503 Nope\r\nContent-Length: 0\r\n\r\n")) as address:
        outcome = await only(address)
    assert (outcome.kind, outcome.status) == (Kind.SERVER_ERROR, 503)


async def test_silence_is_a_timeout():
    """A server that takes the request and says nothing is given up after the caller's patience."""
    async with serve(silent) as address:
        outcome = await only(address, timeout_s=0.05)
    assert outcome.kind is Kind.TIMEOUT
    assert outcome.took_s >= 0.05


async def test_an_idle_connection_that_was_closed_is_no_loss():
    """A FIN seen before the next request: the client dials again and nobody notices."""
    async with serve(answering(OK), answering(OK)) as address:
        client = client_of(address)
        await client.send(POST)
        assert client._wire is not None
        while client._wire.quiet:  # until the FIN
            client._wire.stirred.clear()
            await client._wire.stirred.wait()
        outcome = await client.send(POST)
        client.close()
    assert (outcome.lost, outcome.retried) == (False, False)


async def test_a_connection_announced_to_close_is_not_used_again():
    """`Connection: close` is obeyed at once, not discovered by a failing request."""
    async with serve(answering(OK_CLOSE), answering(OK)) as address:
        client = client_of(address)
        await client.send(POST)
        assert client._wire is None
        assert not (await client.send(POST)).lost
        client.close()


@pytest.mark.parametrize("end", [answering(OK, b""), resetting(OK, b"")])
async def test_a_get_on_a_reused_connection_is_retried_once(end):
    """RFC 9110 section 9.2.2: idempotent, reused, not a byte back: sent again, shown, not lost."""
    async with serve(end, answering(OK)) as address:
        client = client_of(address)
        await client.send(GET)
        outcome = await client.send(GET)
        client.close()
    assert (outcome.lost, outcome.retried) == (False, True)


async def test_a_get_is_not_retried_twice():
    """The second failure is on a fresh connection and is a loss."""
    async with serve(answering(OK, b""), answering(b""), for_ever_ok) as address:
        client = client_of(address)
        await client.send(GET)
        outcome = await client.send(GET)
    assert (outcome.kind, outcome.retried) == (Kind.RESET, True)


async def test_a_post_on_a_reused_connection_is_lost():
    """Nobody may send an order twice without being asked to."""

    async def script(talk: Conversation) -> None:
        await talk.head()
        talk.say(OK)
        await talk.until(b"0\r\n\r\n")

    async with serve(script, for_ever_ok) as address:
        client = client_of(address)
        await client.send(GET)
        outcome = await client.send(POST)
    assert (outcome.kind, outcome.retried) == (Kind.RESET, False)


async def test_a_get_that_was_answered_in_part_is_not_retried():
    """One byte of an answer forbids the retry."""
    async with serve(answering(OK, OK[:1]), for_ever_ok) as address:
        client = client_of(address)
        await client.send(GET)
        outcome = await client.send(GET)
    assert (outcome.kind, outcome.retried) == (Kind.TRUNCATED, False)


async def test_an_early_answer_ends_the_sending():
    """An answer in the middle of the request's body is taken, the connection not used again."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(talk: Conversation) -> None:
        await talk.until(b"one\r\n")
        talk.say(b"HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n")
        heard.put_nowait(await talk.client_left())

    request = Request(method="POST", path="/", host="test", parts=(b"one", b"two"), pause_s=60.0)
    async with serve(script) as address:
        client = client_of(address)
        outcome = await client.send(request)
        assert client._wire is None
        assert await heard.get() == b""
    assert (outcome.status, outcome.lost) == (413, False)


def anonymous(side: int) -> ssl.SSLContext:
    """TLS without certificates: the handshake is real, nobody's identity is."""
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    return context


async def test_https_is_spoken():
    """The same exactness over TLS: answers, reuse, truncation."""
    server, caller = anonymous(ssl.PROTOCOL_TLS_SERVER), anonymous(ssl.PROTOCOL_TLS_CLIENT)
    async with serve(answering(OK, OK[:-1]), tls=server) as address:
        client = Client(choose=lambda: address, keep_alive=True, timeout_s=10.0, tls=caller)
        first, second = await client.send(GET), await client.send(GET)
    assert (first.status, first.kind) == (200, None)
    assert second.kind is Kind.TRUNCATED


async def test_a_failed_handshake_is_unreachable():
    """A service that does not speak TLS is told apart from one that is down."""

    async def script(talk: Conversation) -> None:
        talk.say(b"220 mail.example ready\r\n")
        await talk.client_left()

    async with serve(script) as address:
        context = ssl.create_default_context()
        outcome = await Client(choose=lambda: address, keep_alive=True, timeout_s=10.0, tls=context).send(GET)
    assert outcome.kind is Kind.UNREACHABLE
