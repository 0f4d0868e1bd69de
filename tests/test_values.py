"""How each kind of value is written, and what is refused with which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.addresses import ListenAddress, UpstreamAddress
from drainproxy.lifecycle.settings import ReadinessOnDrain
from drainproxy.values import places, show_duration
from tests.support.settings import BY_NAME, problems, value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("24h", 86400.0),
        ("1m30s", 90.0),
        ("1h30m", 5400.0),
        ("1h0m0.5s", 3600.5),
        ("2m500ms", 120.5),
    ],
)
def test_duration(text, seconds):
    """A duration is a number and a unit, or several, the largest first."""
    assert value("linger", text) == seconds


@pytest.mark.parametrize("text", ["30", "0", "1.5", "30."])
def test_duration_without_unit(text):
    """A bare number is refused, and the error says that its unit is missing."""
    [problem] = problems({"DRAINPROXY_LINGER": text})
    assert problem == (
        f'linger (env DRAINPROXY_LINGER): "{text}" has no unit;'
        " write a duration up to 24h such as 500ms, 30s, 1m30s or 1h"
    )


NO_DURATIONS = ["-1s", "1d", "s", "1 s", "1s ", "1e3s", "inf", "nan", "1,5s", "٣s", "1s\n"]
NO_SUMS = ["30s1m", "1m1m", "1m30", "1m 30s", "ms"]


@pytest.mark.parametrize("text", [*NO_DURATIONS, *NO_SUMS])
def test_not_a_duration(text):
    """Negative, odd and unknown writings of a duration are refused."""
    [problem] = problems({"DRAINPROXY_LINGER": text})
    assert "is not a duration" in problem


@pytest.mark.parametrize("text", ["25h", "999999999s", "1441m", "23h60m1ms"])
def test_duration_too_long(text):
    """A duration is bounded."""
    [problem] = problems({"DRAINPROXY_LINGER": text})
    assert "is longer than 24h" in problem


@pytest.mark.parametrize("name", ["connect_timeout", "drain_timeout", "keepalive_idle", "grace_period"])
def test_zero_duration(name):
    """Where a time of zero would let nothing work, it is refused."""
    [problem] = problems({BY_NAME[name].env: "0s"})
    assert "is no time at all" in problem
    assert "above 0s" in problem


@given(st.integers(0, 86_400_000))
def test_duration_round_trip(milliseconds):
    """Every duration to the millisecond reads back from how it is shown."""
    seconds = milliseconds / 1000
    assert value("linger", show_duration(seconds)) == seconds


@pytest.mark.parametrize(
    "name",
    ["response_head_timeout", "total_timeout", "drain_timeout", "tcp_keepalive_idle", "breaker_cooldown"],
    ids=lambda name: name,
)
def test_off(name):
    """A time that need not be there may be switched off, by that word."""
    assert value(name, "off") is None
    assert value(name, "5s") == 5.0


@pytest.mark.parametrize("name", ["head_timeout", "propagation_quiet", "grace_period"])
def test_off_is_not_for_all(name):
    """What cannot be switched off does not take `off` for a duration."""
    assert "is not a duration" in problems({BY_NAME[name].env: "off"})[0]


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("65536", 65536), ("64KiB", 65536), ("2MiB", 2 << 20)])
def test_size(text, size):
    """A size is plain bytes, or KiB or MiB."""
    assert value("max_head_bytes", text) == size


@pytest.mark.parametrize(("text", "size"), [("10MiB", 10 << 20), ("5GiB", 5 << 30), ("off", None)])
def test_size_of_what_passes_through(text, size):
    """What is never held may be larger, or without a limit."""
    assert value("max_body_bytes", text) == size


@pytest.mark.parametrize(("text", "ratio"), [("0", 0.0), ("0.05", 0.05), ("1", 1.0), ("1.0", 1.0)])
def test_ratio(text, ratio):
    """A part of one."""
    assert value("trace_ratio", text) == ratio


@pytest.mark.parametrize("text", ["5%", "1.1", "-0.1", ".5", "1e-3", "nan", "0.5 "])
def test_bad_ratio(text):
    """In one way of writing."""
    (problem,) = problems({"DRAINPROXY_TRACE_RATIO": text})
    assert "write a number from 0 to 1 such as 0.05" in problem


@pytest.mark.parametrize(
    "text", ["collector:4318", "grpc://collector:4317", "http://", "http://a b/v1/traces"]
)
def test_bad_endpoint(text):
    """OTLP over HTTP has a URL."""
    (problem,) = problems({"DRAINPROXY_TRACE_ENDPOINT": text})
    assert "http:// or https:// URL" in problem


@pytest.mark.parametrize("text", ["0", "17MiB", "64kb", "64K", "-1", "1.5KiB", "", " 1"])
def test_bad_size(text):
    """Sizes out of range or with other units are refused."""
    [problem] = problems(flags={"max_head_bytes": text})
    assert "write bytes up to 16MiB" in problem


@pytest.mark.parametrize("text", ["0", "10001", "1s", "-1", "1.0"])
def test_bad_count(text):
    """A count is a whole number within its range."""
    assert "a whole number from 1 to 10000" in problems({"DRAINPROXY_MAX_FIELDS": text})[0]


@pytest.mark.parametrize(
    ("text", "on"), [("true", True), ("on", True), ("1", True), ("False", False), ("off", False)]
)
def test_switch(text, on):
    """A switch takes the usual words."""
    assert value("allow_half_close", text) is on


def test_bad_switch():
    """Anything else is not a switch."""
    assert "is neither true nor false" in problems({"DRAINPROXY_ALLOW_HALF_CLOSE": "maybe"})[0]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":28080", ListenAddress(None, 28080)),
        ("127.0.0.1:0", ListenAddress("127.0.0.1", 0)),
        ("[::1]:80", ListenAddress("::1", 80)),
        ("localhost:65535", ListenAddress("localhost", 65535)),
    ],
)
def test_address(text, address):
    """An address is host and port; an empty host means all, port 0 any."""
    assert value("admin", text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["28080", "::1:80", "[127.0.0.1]:80", "[::1]", "a b:80", ":65536", ":-1", ":", "*:80", "http://x:80"],
)
def test_bad_address(text):
    """What is not host and port is refused with what would be one."""
    [problem] = problems({"DRAINPROXY_ADMIN": text})
    assert "write HOST:PORT, [IPV6]:PORT or :PORT for every address" in problem


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:8080", UpstreamAddress("127.0.0.1", 8080)),
        ("http://app:80/", UpstreamAddress("app", 80)),
        ("http://[::1]:80", UpstreamAddress("::1", 80)),
        ("https://app:443", UpstreamAddress("app", 443, tls=True)),
        ("unix:/run/app.sock", UpstreamAddress(path="/run/app.sock")),
    ],
)
def test_upstream(text, address):
    """The application listens on TCP or on a Unix socket."""
    assert value("upstream", text) == (address,)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:8080",
        "ftp://app:443",
        "https:app:443",
        "http://app",
        "http://:80",
        "http://app:0",
        "http://app:80/path",
        "http://user@app:80",
        "unix:",
        "unix:/" + "x" * 107,
        "",
    ],
)
def test_bad_upstream(text):
    """Other schemes, paths, missing ports and sockets the system could not bind are refused."""
    [problem] = problems(flags={"upstream": [text]})
    assert "write http://HOST:PORT, https://HOST:PORT, tcp://HOST:PORT or unix:/PATH" in problem


def test_readiness_on_drain():
    """Readiness is a word, or a delay with its duration."""
    assert value("readiness_on_drain", "fail") == ReadinessOnDrain("fail")
    assert value("readiness_on_drain", "delay:1500ms") == ReadinessOnDrain("delay", 1.5)
    assert "has no unit" in problems({"DRAINPROXY_READINESS_ON_DRAIN": "delay:3"})[0]
    assert "is unknown" in problems({"DRAINPROXY_READINESS_ON_DRAIN": "never"})[0]


@pytest.mark.parametrize("name", ["log_format", "access_log", "loop", "propagation"])
def test_choice(name):
    """A word outside its closed set is refused together with the set."""
    [problem] = problems({BY_NAME[name].env: "none "})
    assert "is unknown; write one of " in problem


@pytest.mark.parametrize("name", ["probe_path", "health_paths"])
@pytest.mark.parametrize("text", ["healthz", "/a b", "/a#b", "/\u00e9"])
def test_bad_path(name, text):
    """A path is on the wire as it is here, so it must be one; none such would ever be asked for."""
    assert len(problems({BY_NAME[name].env: text})) == 1


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("10000", 10_000), ("10001", 10_001), ("100000", 100_000)]
)
def test_there_may_be_more_connections_than_anything_else(text, number):
    """They are only held."""
    assert places(text) == number


@pytest.mark.parametrize("text", ["0", "-1", "100001", "1e5", "", "٣"])
def test_what_is_no_number_of_connections(text):
    """Refused with the words of every count."""
    with pytest.raises(ValueError, match="is not a whole number|is out of range"):
        places(text)
