"""A ClientHello is read to its end before OpenSSL makes room for what its header says."""

from __future__ import annotations

import pytest

from drainproxy.proxy.wire.client_hello import MAX_BYTES, MAX_RECORDS, is_whole


def record(payload: bytes, kind: int = 22) -> bytes:
    """Return one record."""
    return bytes((kind, 3, 1)) + len(payload).to_bytes(2) + payload


def hello(size: int) -> bytes:
    """Return a handshake message of this size."""
    return b"\x01" + size.to_bytes(3) + bytes(size)


def test_a_client_hello_is_whole_at_its_last_byte() -> None:
    """In one record or in several, and however it is cut up."""
    message = hello(700)
    for data in (record(message), record(message[:3]) + record(message[3:400]) + record(message[400:])):
        assert not any(is_whole(data[:size]) for size in range(len(data)))
        assert is_whole(data)
        assert is_whole(data + record(b"more"))


def test_what_is_no_client_hello_is_openssls_to_name() -> None:
    """Clear text, an alert, another message: it knows the right alert."""
    others = (b"GET / HTTP/1.1\r\n", record(b"\x02\x28", 21), record(b"\x02" + bytes(10)), b"\x80\x2e")
    for data in others:
        assert is_whole(data)


def test_a_client_hello_that_says_it_is_large_is_refused_at_its_header() -> None:
    """OpenSSL would make room for 128 KiB, and wait."""
    assert not is_whole(record(hello(MAX_BYTES))[:100])
    with pytest.raises(ValueError, match="too large"):
        is_whole(record(hello(MAX_BYTES + 1))[:9])


def test_a_client_hello_in_crumbs_is_refused() -> None:
    """A byte a record is five bytes to look at for each."""
    crumbs = b"".join(record(hello(100)[at : at + 1]) for at in range(MAX_RECORDS))
    assert not is_whole(crumbs[:-7])
    with pytest.raises(ValueError, match="too many"):
        is_whole(crumbs)
