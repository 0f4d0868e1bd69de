"""Bytes that are nearly HTTP: grammar first, then a few changes, for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

METHODS = [b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"CONNECT", b"TRACE", b"PRI", b"BREW"]
TARGETS = [b"/", b"/a?b=c", b"*", b"http://shop/a", b"http://shop?q", b"//x", b"/%0d%0a", b"a:1", b"/a#b"]
VERSIONS = [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b""]
LENGTHS = [b"0", b"3", b"5", b"05", b"+5", b"5, 5", b"5 ", b"0x5", b"", b"99999999999999999999"]
CODINGS = [b"chunked", b"Chunked", b"gzip, chunked", b"chunked, chunked", b"identity", b"xchunked"]
NAMES = [b"X-A", b"x-b", b"X_A", b"Content_Length", b"X-Forwarded-For", b"x_forwarded_for", b"Cookie", b"Via"]
NAMED = [b"close", b"keep-alive", b"X-A", b"x-b, close", b"host", b"content-length", b"te", b"upgrade", b","]
CHANGES = b'\r\n\0 \t:;,="0159aAxX-_+/?#%*\x0b\x7f\x80\xff'

_values = st.sampled_from([b"1", b"one, two", b"", b" padded\t", b"\xc3\xa9", b"a:b", b'"q"'])
_field = st.one_of(
    st.builds(lambda name, value: name + b": " + value, st.sampled_from(NAMES), _values),
    st.builds(lambda value: b"Connection: " + value, st.sampled_from(NAMED)),
    st.sampled_from([b"TE: trailers", b"Expect: 100-continue", b"Upgrade: h2c", b"Upgrade: websocket"]),
    st.sampled_from([b"Max-Forwards: 0", b"Max-Forwards: 9", b"Proxy-Authorization: x", b"Trailer: X-A"]),
)
_host = st.sampled_from([b"Host: shop"] * 8 + [b"Host: a b", b"Host: ", b"Host:shop:80", b"HOST: [::1]"])


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    """A chunked body, with extensions and trailers."""
    out = b""
    for data in draw(st.lists(st.binary(min_size=1, max_size=12), max_size=3)):
        extension = draw(st.sampled_from([b"", b"", b";a", b";a=b", b';a="b c"']))
        out += b"%x%b\r\n%b\r\n" % (len(data), extension, data)
    trailers = draw(st.sampled_from([b"", b"", b"X-T: 1\r\n", b"Host: evil\r\n", b"X-A: 1\r\n"]))
    return out + b"0\r\n" + trailers + b"\r\n"


@st.composite
def request(draw: st.DrawFn) -> bytes:
    """One request whose framing is mostly right."""
    line = b" ".join(draw(st.tuples(*map(st.sampled_from, (METHODS, TARGETS, VERSIONS)))))
    fields = [draw(_host), *draw(st.lists(_field, max_size=4))]
    kind = draw(st.sampled_from(["none", "none", "length", "chunked", "both", "odd"]))
    body = b""
    if kind == "length":
        body = draw(st.binary(max_size=20))
        fields.append(b"Content-Length: %d" % len(body))
    if kind in {"chunked", "both"}:
        body = draw(chunks())
        fields.append(b"Transfer-Encoding: chunked")
    if kind in {"both", "odd"}:
        fields.append(b"Content-Length: " + draw(st.sampled_from(LENGTHS)))
    if kind == "odd" and draw(st.booleans()):
        fields.append(b"Transfer-Encoding: " + draw(st.sampled_from(CODINGS)))
    order = draw(st.permutations(fields))
    return b"".join([line, b"\r\n", *(one + b"\r\n" for one in order), b"\r\n", body])


@st.composite
def response(draw: st.DrawFn) -> bytes:
    """One response, perhaps with interim ones before it and something behind it."""
    status = draw(st.sampled_from([b"200 OK", b"204 No", b"304 Not", b"404 ", b"101 Up", b"299", b"999 X"]))
    interim = draw(st.sampled_from([b"", b"", b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"]))
    version = draw(st.sampled_from([b"HTTP/1.1"] * 5 + [b"HTTP/1.0", b"HTTP/2", b"ICY"]))
    fields = draw(st.lists(_field, max_size=3))
    kind = draw(st.sampled_from(["none", "length", "chunked", "both", "odd"]))
    body = draw(st.binary(max_size=20))
    if kind == "length":
        fields.append(b"Content-Length: %d" % len(body))
    if kind in {"chunked", "both"}:
        body = draw(chunks())
        fields.append(b"Transfer-Encoding: chunked")
    if kind in {"both", "odd"}:
        fields.append(b"Content-Length: " + draw(st.sampled_from(LENGTHS)))
    behind = draw(st.sampled_from([b"", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]))
    head = [version, b" ", status, b"\r\n", *(one + b"\r\n" for one in fields), b"\r\n"]
    return b"".join([interim, *head, body, behind])


@st.composite
def changed(draw: st.DrawFn, whole: st.SearchStrategy[bytes], changes: bytes = CHANGES) -> bytes:
    """Bytes of `whole` with up to three of them changed, added or taken away."""
    raw = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(raw) - 1)))
        fresh = draw(st.sampled_from(changes))
        what = draw(st.sampled_from(["change", "add", "take", "repeat", "cut"]))
        if what == "add":
            raw.insert(at, fresh)
        elif raw and what == "take":
            del raw[at]
        elif raw and what == "change":
            raw[at] = fresh
        elif what == "repeat":
            raw[at:at] = raw[at : at + 8]
        elif what == "cut":
            del raw[at:]
    return bytes(raw)


pipelines = changed(st.lists(request(), min_size=1, max_size=4).map(b"".join))
responses = changed(response())
cuts = st.lists(st.integers(0, 400), max_size=6)

_ADDRESSES = [b"203.0.113.7", b"2001:db8::7", b"::ffff:1.2.3.4", b"fe80::1%a", b"1.2.3", b"evil", b"\xff"]
_address = st.sampled_from(_ADDRESSES)
_port = st.sampled_from([b"1", b"443", b"65535", b"65536", b"01", b"x"])
_version_1 = st.builds(
    lambda family, *rest: b" ".join([b"PROXY", family, *rest]) + b"\r\n",
    st.sampled_from([b"TCP4", b"TCP6", b"UNKNOWN", b"UDP4"]),
    _address,
    _address,
    _port,
    _port,
)
_version_2 = st.builds(
    lambda command, family, size, rest: b"\r\n\r\n\0\r\nQUIT\n" + bytes((command, family, 0, size)) + rest,
    st.sampled_from([0x20, 0x21, 0x22, 0x11]),
    st.sampled_from([0x00, 0x11, 0x21, 0x31, 0x12]),
    st.sampled_from([0, 11, 12, 36, 60]),
    st.binary(max_size=70),
)
proxy_headers = changed(st.one_of(_version_1, _version_2))
