"""The live page: self-contained, and held to it by its own policy."""

from __future__ import annotations

import base64
import hashlib
import re

from drainproxy.admin import page


def test_the_policy_names_exactly_what_the_page_contains():
    """A byte changed in style or script without its hash, and browsers would show a bare page."""
    for element in ("style", "script"):
        (inline,) = re.findall(rf"<{element}[^>]*>(.*?)</{element}>", page.PAGE, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in page.POLICY
    assert page.POLICY.startswith("default-src 'none';")
    assert "unsafe" not in page.POLICY


def test_nothing_comes_from_elsewhere():
    """It works in a cluster without a way out, and tells no third party that a pod drains."""
    assert re.findall(r"""\s(?:src|href|action)\s*=|url\(|@import|https?:/""", page.PAGE) == []
    assert " style=" not in page.PAGE, "the policy would drop it"
    assert re.findall(r" on[a-z]+=", page.PAGE) == [], "the policy would drop it"


def test_callers_paths_are_shown_as_text():
    """A path in flight is written by whoever calls: it must never become markup."""
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(", page.PAGE) == []
    )


def test_it_fits_a_phone():
    """Operators are woken at night."""
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page.PAGE


async def test_it_is_served_with_its_policy(premises):
    """As HTML, on loopback."""
    answer = await premises.ask("GET /")
    assert answer.status == 200
    assert answer.fields["content-type"] == "text/html; charset=utf-8"
    assert answer.fields["content-security-policy"] == page.POLICY
    assert answer.text == page.PAGE
