"""The tree of errors: each leaf with the facts that log, metrics, manual and reply have to agree on."""

from __future__ import annotations

import re

import pytest

from drainproxy import errors
from drainproxy.errors import Blame, ConfigError, DrainproxyError, RequestError, leaves

# reason -> status, blame, RFC 9209 error type, Retry-After in seconds.
REPLIES = """
malformed-head               400  client    http_request_error       -
ambiguous-framing            400  client    http_request_error       -
invalid-host                 400  client    http_request_error       -
invalid-target               400  client    http_request_error       -
malformed-body               400  client    http_request_error       -
unsupported-transfer-coding  501  client    http_request_error       -
unknown-method               501  client    http_request_error       -
method-refused               405  client    http_request_error       -
unsupported-version          505  client    http_request_error       -
target-too-long              414  client    http_request_error       -
fields-too-large             431  client    http_request_error       -
body-too-large               413  client    http_request_error       -
proxy-header-refused         400  client    http_request_error       -
loop-detected                508  client    proxy_loop_detected      -
head-timeout                 408  client    http_request_error       -
body-timeout                 408  client    http_request_error       -
client-idle                  408  client    http_request_error       -
client-gone                  499  client    http_request_error       -
upstream-refused             503  upstream  connection_refused       1
connect-timeout              504  upstream  connection_timeout       -
upstream-gone                502  upstream  connection_terminated    -
hold-timeout                 503  upstream  connection_refused       1
upstream-untrusted           502  upstream  tls_certificate_error    -
upstream-handshake-failed    502  upstream  tls_protocol_error       -
upstream-malformed           502  upstream  http_protocol_error      -
response-head-timeout        504  upstream  http_response_timeout    -
idle-timeout                 504  upstream  http_response_timeout    -
total-timeout                504  upstream  http_response_timeout    -
drain-ending                 503  policy    proxy_internal_response  1
draining                     503  policy    proxy_internal_response  1
drain-deadline               503  policy    proxy_internal_response  1
leave-overdue                503  policy    proxy_internal_response  1
too-many-connections         503  policy    proxy_internal_response  1
too-many-per-client          503  policy    proxy_internal_response  1
queue-full                   503  policy    connection_limit_reached  1
queue-timeout                503  policy    connection_limit_reached  1
breaker-open                 503  policy    destination_unavailable  1
out-of-buffers               503  policy    proxy_internal_response  1
too-many-streams             503  policy    connection_limit_reached  1
out-of-descriptors           503  policy    proxy_internal_response  1
out-of-sockets               503  policy    proxy_internal_response  1
internal                     500  drainproxy  proxy_internal_error   -
"""
EXPECTED = {row.split()[0]: row.split()[1:] for row in REPLIES.strip().splitlines()}

REGISTERED = """
    dns_timeout dns_error destination_not_found destination_unavailable destination_ip_prohibited
    destination_ip_unroutable connection_refused connection_terminated connection_timeout
    connection_read_timeout connection_write_timeout connection_limit_reached tls_protocol_error
    tls_certificate_error tls_alert_received http_request_error http_request_denied
    http_response_incomplete http_response_header_section_size http_response_header_size
    http_response_body_size http_response_trailer_section_size http_response_trailer_size
    http_response_transfer_coding http_response_content_coding http_response_timeout http_upgrade_failed
    http_protocol_error proxy_internal_response proxy_internal_error proxy_configuration_error
    proxy_loop_detected
"""
"""Error types of RFC 9209 section 2.3."""


@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf.reason)
def test_each_error_has_the_facts_of_the_table(leaf):
    """A client, an alert and a reader of the manual act on them."""
    status, blame, proxy_status, retry_after = EXPECTED[leaf.reason]
    assert leaf.status == int(status)
    assert leaf.blame is Blame(blame)
    assert leaf.proxy_status == proxy_status
    assert leaf.retry_after_s == (None if retry_after == "-" else int(retry_after))


def test_no_reason_is_missing_and_none_is_there_twice():
    """It is at once a log field, a metric label and a row of the manual."""
    reasons = [leaf.reason for leaf in leaves()]
    assert sorted(reasons) == sorted(EXPECTED)
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf.reason)
def test_each_error_is_well_formed(leaf):
    """Kebab-case reasons, registered error types, and a sentence on what it is."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", leaf.reason)
    assert leaf.proxy_status in REGISTERED.split()
    assert leaf.__doc__


BLAME = {
    # Whose doing -> the statuses that say so.
    Blame.CLIENT: {400, 405, 408, 413, 414, 431, 499, 501, 505, 508},
    Blame.UPSTREAM: {502, 503, 504},
    Blame.POLICY: {503},
    Blame.OURS: {500},
}


@pytest.mark.parametrize("leaf", leaves(), ids=lambda leaf: leaf.reason)
def test_the_status_tells_whose_doing_it_is(leaf):
    """Nobody has to look for a fault where none is."""
    assert leaf.status in BLAME[leaf.blame]
    if leaf.blame is Blame.POLICY or leaf.status == 503:
        assert leaf.retry_after_s is not None


def test_an_error_reads_as_its_detail_or_its_reason():
    """A log line without words helps nobody."""
    assert str(errors.MalformedHead("bad byte 0x00")) == "bad byte 0x00"
    assert str(errors.MalformedHead()) == "malformed-head"


def test_leaves_are_what_has_nothing_below_it():
    """The branches are never raised as they are."""
    found = leaves()
    assert RequestError not in found
    assert errors.ClientError not in found
    assert leaves(errors.Refusal)[:3] == [errors.DrainEnding, errors.Draining, errors.DrainDeadline]
    assert leaves(errors.MalformedHead) == [errors.MalformedHead]


def test_a_config_error_carries_every_problem():
    """One run, all of them told."""
    error = ConfigError(["grace: no unit", "admin: no port"])
    assert error.problems == ["grace: no unit", "admin: no port"]
    assert str(error) == "grace: no unit; admin: no port"
    assert isinstance(error, DrainproxyError)
