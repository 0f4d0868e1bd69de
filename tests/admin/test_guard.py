"""Who may see /status."""

from __future__ import annotations

import pytest

from drainproxy.admin.guard import is_loopback, refusal

NEIGHBOUR = {"peer": "127.0.0.1", "local": "127.0.0.1", "host": "localhost:29900"}


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.8.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
    ],
)
def test_loopback_at_both_ends_may_look(peer, local):
    """Also as a dual-stack listener spells it."""
    assert refusal(peer=peer, local=local, host="localhost:29900") is None


@pytest.mark.parametrize(
    ("peer", "local"),
    [
        ("10.0.0.7", "10.0.0.9"),
        ("10.0.0.9", "10.0.0.9"),
        ("127.0.0.1", "10.0.0.9"),
        ("10.0.0.7", "127.0.0.1"),
        ("::ffff:10.0.0.7", "::1"),
        ("fe80::1%eth0", "fe80::2%eth0"),
        ("0.0.0.0", "127.0.0.1"),
        ("", ""),
        ("", "127.0.0.1"),
        ("127.0.0.1.example", "127.0.0.1"),
    ],
)
def test_any_other_end_may_not(peer, local):
    """The admin port is open to the pod network; what it says about callers is not."""
    assert refusal(peer=peer, local=local, host="localhost:29900") == (
        "only from loopback: use kubectl port-forward"
    )


@pytest.mark.parametrize(
    ("origin", "fetch_site", "may"),
    [
        (None, None, True),
        (None, "none", True),
        (None, "same-origin", True),
        (None, "same-site", False),
        (None, "cross-site", False),
        (None, "anything", False),
        ("https://site.example", None, False),
        ("null", None, False),
        ("", None, False),
        ("http://localhost:29900", "same-origin", False),
    ],
)
def test_no_web_site_may_look_through_a_browser(origin, fetch_site, may):
    """Our own page sends no Origin with a GET: whoever sends one is another site."""
    assert (refusal(**NEIGHBOUR, origin=origin, fetch_site=fetch_site) is None) is may


@pytest.mark.parametrize(
    ("host", "may"),
    [
        ("", True),
        ("localhost", True),
        ("localhost:8080", True),
        ("127.0.0.1:29900", True),
        ("[::1]:29900", True),
        ("[::1]", True),
        ("10.0.0.9", True),
        ("rebound.example", False),
        ("rebound.example:29900", False),
        ("localhost.rebound.example:29900", False),
        ("127.0.0.1.rebound.example", False),
    ],
)
def test_a_name_that_dns_could_point_at_us_is_refused(host, may):
    """A site that rebinds its name to 127.0.0.1 is same-origin to the browser; its Host gives it away."""
    assert (refusal(**{**NEIGHBOUR, "host": host}) is None) is may


def test_what_is_no_address_is_not_loopback():
    """A Unix socket's peer has no address; its routes do not ask."""
    assert not is_loopback("/run/drainproxy/control.sock")
