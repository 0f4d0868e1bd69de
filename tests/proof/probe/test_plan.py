"""What the probe's command line accepts."""

import argparse

import pytest

from drainproxy.cli.arguments import parse
from drainproxy.proof.probe.plan import MAX_RATE, field, rate, span, target


@pytest.mark.parametrize(
    ("text", "address", "host", "path"),
    [
        ("http://shop", ("shop", 80), "shop", "/"),
        ("https://shop/a?b=1", ("shop", 443), "shop", "/a?b=1"),
        ("http://shop:8080/", ("shop", 8080), "shop:8080", "/"),
        ("shop:8080/a", ("shop", 8080), "shop:8080", "/a"),
        ("http://[::1]:80/x", ("::1", 80), "[::1]:80", "/x"),
        ("http://me:secret@shop/", ("shop", 80), "shop", "/"),
        ("http://shop/%2e%2e/a//b", ("shop", 80), "shop", "/%2e%2e/a//b"),
    ],
)
def test_a_url_says_where_to_connect_and_what_to_ask(text, address, host, path):
    """Path and query are sent as they were written."""
    made = target(text)
    assert (made.address, made.host, made.path) == (address, host, path)


def test_a_password_in_the_url_is_not_in_the_report():
    """The summary is made to be pasted into a change request."""
    assert target("http://me:secret@shop:81/a").url == "http://shop:81/a"


@pytest.mark.parametrize(
    "text",
    [
        "ftp://shop/",
        "http://",
        "http://shop:port/",
        "http://shop/a b",
        "http://shop/\x07",
        "http://shop:0/",
        "http://sch\xf6n/",
        "http://a b/",
    ],
)
def test_other_urls_are_refused(text):
    """Before anything is measured."""
    with pytest.raises(argparse.ArgumentTypeError):
        target(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "fast", str(MAX_RATE + 1)])
def test_a_rate_is_a_bounded_number(text):
    """An endless or absurd rate is refused."""
    with pytest.raises(argparse.ArgumentTypeError):
        rate(text)


def test_a_header_may_not_change_the_framing():
    """The probe frames its requests itself; all else is the caller's."""
    assert field("Authorization: Bearer a:b") == ("Authorization", "Bearer a:b")
    for text in ("Host: x", "content-length: 1", "Transfer-Encoding: chunked", "no colon", ": x", "a b: x"):
        with pytest.raises(argparse.ArgumentTypeError):
            field(text)
    with pytest.raises(argparse.ArgumentTypeError):
        field("X: a\r\nY: b")


def test_a_header_is_made_of_what_http_can_carry():
    """What has no octet in it would end the probe in the middle; bytes of Latin-1 pass."""
    assert field("X: \xe9") == ("X", "\xe9")
    for text in ("X: \u65e5", "\xe9: x"):
        with pytest.raises(argparse.ArgumentTypeError):
            field(text)


@pytest.mark.parametrize("text", ["0s", "0ms", "61m"])
def test_a_time_of_the_probe_is_a_bounded_one(text):
    """No time at all was once the default's, and what is over an hour was cut to it without a word."""
    with pytest.raises(argparse.ArgumentTypeError, match="between 1ms and 1h"):
        span(text)


def parsed(*words: str) -> argparse.Namespace:
    """As the program does it."""
    return parse(["probe", *words])


def test_a_command_stands_behind_two_dashes_wherever_the_options_are():
    """Options may stand before or after the URL; the command keeps its own options and dashes."""
    command = ["kubectl", "exec", "--rate", "1", "--", "ls"]
    for words in (["http://shop", "--rate", "7"], ["--rate", "7", "http://shop"]):
        options = parsed(*words, "--", *command)
        assert (options.rate, options.command, options.url.host) == (7.0, command, "shop")
    assert parsed("http://shop").command == []


def test_one_habit_of_connections_at_a_time():
    """Mixed unless it is said."""
    assert parsed("http://shop").connections == "mix"
    assert parsed("http://shop", "--new-connections").connections == "new"
    assert parsed("http://shop", "--keep-alive").connections == "keep-alive"
    with pytest.raises(SystemExit):
        parsed("http://shop", "--keep-alive", "--mix")
