"""What an application is told of clients, by whom it may have been told, as bytes."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.errors import LoopDetected
from drainproxy.proxy.message import framing, headers
from drainproxy.proxy.message.filters import RequestFilters
from drainproxy.proxy.message.forwarding import Forwarding
from drainproxy.proxy.message.trust import Trust
from drainproxy.proxy.message.via import Via
from tests.proxy import feeding
from tests.support.house import House
from tests.support.memory import kept_by
from tests.support.upstream import OK, Upstream

if TYPE_CHECKING:
    from drainproxy.proxy.transport_settings import Mode

CLIENT, BALANCER, INGRESS = b"203.0.113.7", b"10.0.0.1", b"10.9.9.9"
TRUSTED = ("10.0.0.0/8", "2001:db8::/32")
START = b"GET / HTTP/1.1\r\nHost: shop\r\n"


def made(mode: Mode, *, via: bytes | None = None, trusted: tuple[str, ...] = TRUSTED) -> RequestFilters:
    """What filters.build makes, but that ids are all the same."""
    trust = Trust(trusted if mode == "append" else ())
    speaks = [] if mode == "keep" else [Forwarding(mode, trust, lambda: b"new-id")]
    return RequestFilters(trust, speaks if via is None else [*speaks, Via(via)])


def sent(
    speaker: RequestFilters,
    lines: bytes,
    *,
    peer: bytes = CLIENT,
    scheme: bytes = b"https",
    start: bytes = START,
) -> bytes:
    """What is sent beside a plain request's fields because of `lines` from `peer`."""
    head = feeding.request(start + lines + b"\r\n")
    body, target = framing.request_body(head), headers.check_target(head)
    speaker.prepare(head, peer, scheme, target.host)
    raw, _ = headers.request_head(head, target, body, peer=peer, scheme=scheme, host=b"app")
    assert raw.startswith(start.replace(b"HTTP/1.0", b"HTTP/1.1"))
    return raw[len(start) :].removesuffix(b"\r\n")


def anew(client: bytes, *, scheme: bytes = b"https", chain: bytes = b"", hop: bytes = b"") -> bytes:
    """What the application reads of a client."""
    element = hop or b'for=%b;proto=%b;host="shop"' % (client, scheme)
    return (
        b"X-Forwarded-For: %b\r\nX-Real-IP: %b\r\nForwarded: %b\r\nX-Forwarded-Proto: %b\r\n"
        b"X-Forwarded-Host: shop\r\nX-Request-Id: new-id\r\n"
    ) % (chain or client, client, element, scheme)


LIES = (
    b"X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX-Forwarded-Proto: http\r\n"
    b"X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\nX-Request-Id: 1\r\n"
)


def test_a_chain_of_any_length_goes_on_and_is_not_kept():
    """What was looked at is remembered, but not what is too long to be an address."""

    def ask() -> None:
        for number in range(300):
            lie = b"%d" % number * 20_000
            told = sent(made("append"), b"X-Forwarded-For: %b\r\n" % lie, peer=BALANCER)
            assert b"X-Forwarded-For: %b, 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\n" % lie in told

    assert kept_by(ask) < 1_000_000


@pytest.mark.parametrize("peer", [CLIENT, BALANCER])
def test_replace_drops_whatever_came_and_says_what_the_connection_says(peer):
    assert sent(made("replace"), b"A: 1\r\n" + LIES + b"b: 2\r\n", peer=peer) == (
        b"A: 1\r\nb: 2\r\n" + anew(peer)
    )


def test_replace_is_not_fooled_by_underscores():
    twins = LIES.replace(b"X-", b"X_").replace(b"d-", b"d_")
    assert sent(made("replace"), twins) == anew(CLIENT)


@pytest.mark.parametrize("mark", [b".", b"~", b"!", b"*", b"'", b"|", b"_"])
@pytest.mark.parametrize("mode", ["replace", "append"])
def test_no_twin_of_a_field_that_names_a_client_passes(mode, mark):
    """PHP, CGI and WSGI make one variable of names that differ in what is no letter."""
    names = (b"X-Forwarded-For", b"X-Real-IP", b"X-Forwarded-Port", b"True-Client-IP", b"X-Request-Id")
    lines = b"".join(name.replace(b"-", mark) + b": 1.1.1.1\r\n" for name in names)
    assert sent(made(mode), lines) == anew(CLIENT)


@pytest.mark.parametrize(
    "name", [b"CF-Connecting-IP", b"True-Client-IP", b"X-Client-IP", b"Front-End-Https", b"X-Scheme"]
)
def test_a_stranger_names_no_client_by_a_field_of_another_proxy(name):
    """Only what stands in front and is trusted may."""
    line = name + b": 1.1.1.1\r\n"
    assert sent(made("replace"), line) == anew(CLIENT)
    assert sent(made("append"), line) == anew(CLIENT)
    assert sent(made("append"), line, peer=BALANCER).startswith(line)


def test_append_adds_the_hop_and_believes_a_stranger_nothing_else():
    assert sent(made("append"), LIES) == anew(
        CLIENT, chain=b"1.1.1.1, " + CLIENT, hop=b'for=1.1.1.1, for=203.0.113.7;proto=https;host="shop"'
    )


def test_append_believes_a_trusted_proxy():
    lines = (
        b"X-Forwarded-For: 1.1.1.1, 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www\r\n"
        b"X-Forwarded-Port: 443\r\nX-Request-Id: theirs\r\n"
    )
    assert sent(made("append"), lines, peer=BALANCER, scheme=b"http") == (
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: www\r\nX-Forwarded-Port: 443\r\n"
        b"X-Request-Id: theirs\r\n"
        b"X-Forwarded-For: 1.1.1.1, 203.0.113.7, 10.0.0.1\r\nX-Real-IP: 203.0.113.7\r\n"
        b'Forwarded: for=10.0.0.1;proto=http;host="shop"\r\n'
    )


def test_append_says_what_a_trusted_proxy_did_not():
    assert sent(made("append"), b"", peer=BALANCER) == anew(BALANCER)


@pytest.mark.parametrize(
    ("chain", "peer", "client"),
    [
        (b"", CLIENT, CLIENT),
        (b"10.0.0.5", CLIENT, CLIENT),
        (b"203.0.113.7", BALANCER, CLIENT),
        (b"1.1.1.1, 203.0.113.7 , 10.9.9.9", BALANCER, CLIENT),
        (b"203.0.113.7:4711", BALANCER, CLIENT),
        (b'"[2001:db9::1]:4711"', BALANCER, b"2001:db9::1"),
        (b"2001:db9::1,2001:db8::5", b"2001:db8::6", b"2001:db9::1"),
        (b"::ffff:203.0.113.7", BALANCER, CLIENT),
        (b"10.2.2.2,10.3.3.3", BALANCER, b"10.2.2.2"),
        (b"unknown", BALANCER, BALANCER),
        (b"203.0.113.7, garbage, 10.9.9.9", BALANCER, INGRESS),
        (b"203.0.113.7,,\t", BALANCER, CLIENT),
    ],
)
def test_the_client_is_the_first_one_from_the_right_that_is_not_trusted(chain, peer, client):
    field = b"X-Forwarded-For: %b\r\n" % chain if chain else b""
    head = feeding.request(START + field + b"\r\n")
    speaker = made("append")
    assert speaker.client_of(head, peer) == client
    speaker.prepare(head, peer, b"http", b"shop")
    assert b"X-Real-IP: %b\r\n" % client in head.fields
    # The access line asks again, when the hop has been added.
    assert speaker.client_of(head, peer) == client


def test_fields_of_one_name_are_one_list():
    lines = b"X-Forwarded-For: 203.0.113.7\r\nA: 1\r\nx-forwarded-for: 10.9.9.9\r\n"
    assert b"X-Forwarded-For: 203.0.113.7,10.9.9.9, 10.0.0.1\r\n" in sent(
        made("append"), lines, peer=BALANCER
    ).replace(b", 10.9", b",10.9")


def test_a_long_chain_is_not_walked_to_its_end():
    head = feeding.request(START + b"X-Forwarded-For: " + b"10.1.1.1," * 5000 + b"10.1.1.1\r\n\r\n")
    assert made("append").client_of(head, BALANCER) == b"10.1.1.1"


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_connection_cannot_make_what_is_set_disappear(mode):
    lines = b"Connection: x-forwarded-for, x-real-ip, via, x-o\r\nX-Forwarded-For: 1.1.1.1\r\nX-O: 1\r\n"
    assert sent(made(mode, via=b"us"), lines) == anew(CLIENT) + b"Via: 1.1 us\r\n"


def test_a_client_without_a_host_is_said_to_have_none():
    raw = sent(made("replace"), b"", start=b"GET / HTTP/1.0\r\n")
    assert b"X-Forwarded-Host" not in raw
    assert b"Forwarded: for=203.0.113.7;proto=https\r\n" in raw


def test_an_ipv6_address_is_quoted_where_rfc_7239_wants_it():
    raw = sent(made("replace"), b"", peer=b"2001:db9::1")
    assert b'Forwarded: for="[2001:db9::1]";proto=https;host="shop"\r\n' in raw
    assert b"X-Forwarded-For: 2001:db9::1\r\n" in raw


def test_via_is_added_behind_those_of_others_and_nothing_else_changes():
    keep = made("keep", via=b"us")
    usual = b"X-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.7\r\n"
    assert sent(keep, b"Via: 1.1 cdn\r\nA: 1\r\n") == b"Via: 1.1 cdn\r\nA: 1\r\nVia: 1.1 us\r\n" + usual
    old = sent(keep, b"", start=b"GET / HTTP/1.0\r\nHost: shop\r\n")
    assert old == b"Via: 1.0 us\r\n" + usual


@pytest.mark.parametrize("via", [b"1.1 us", b"1.1 cdn, 1.1 us (x)", b"1.0 us,1.1 cdn"])
def test_a_request_that_was_here_before_is_refused(via):
    with pytest.raises(LoopDetected):
        sent(made("keep", via=b"us"), b"Via: %b\r\n" % via)
    assert sent(made("keep"), b"Via: %b\r\n" % via).startswith(b"Via: %b\r\n" % via)


async def test_a_loop_is_a_508_with_its_reason():
    speaker = made("keep", via=b"drainproxy-1234")
    async with Upstream() as upstream, House(upstream, filters=speaker) as house:
        answer = await house.ask(START + b"Via: 1.1 drainproxy-1234\r\n\r\n")
        assert answer.status == 508
        assert answer.one(b"proxy-status") == (
            b'drainproxy; error=proxy_loop_detected; details="loop-detected"'
        )
        assert upstream.accepted == 0


async def test_the_access_line_names_the_client_and_not_the_proxy_before_us():
    speaker = made("append", trusted=("127.0.0.0/8",))
    async with Upstream() as upstream, House(upstream, filters=speaker) as house:
        client = await house.client()
        await client.send(START + b"X-Forwarded-For: 203.0.113.7\r\n\r\n")
        connection = await upstream.connection()
        request = await connection.read_request()
        assert request.one(b"x-forwarded-for") == b"203.0.113.7, 127.0.0.1"
        assert request.one(b"x-request-id") == b"new-id"
        await connection.send(OK)
        await client.final()
        assert house.access[0]["client"] == "203.0.113.7"
        assert house.access[0]["request_id"] == "new-id"
        await client.send(b"GET / HTTP/1.1\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n")
        assert (await client.final()).status == 400
        assert house.access[1]["client"] == "203.0.113.7"


@given(st.text(st.sampled_from('0123456789abcdef.:,[]"% \tx'), max_size=60))
def test_whatever_the_list_says_the_client_is_an_address(chain):
    head = feeding.request(START + b"X-Forwarded-For: %b\r\n\r\n" % chain.encode())
    client = made("append").client_of(head, BALANCER)
    assert ipaddress.ip_address(client.decode())
