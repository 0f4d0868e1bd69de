"""HTTP/1 as conversations: who says what, byte for byte, without a socket and without time.

What a line means is in tests/support/transcript.py. Sockets, back-pressure and time-outs have tests of their
own; here one reads what goes over the wire.
"""

from __future__ import annotations

import pytest

from tests.support.clock import in_fake_time
from tests.support.transcript import Stage


def reply(status: str, error: str, reason: str, *, retry: bool = False, close: bool = True) -> str:
    """An error reply of ours."""
    body = f"{status}: {reason}\\n"
    lines = [
        f"HTTP/1.1 {status}|Content-Type: text/plain; charset=utf-8|Content-Length: {len(body) - 1}",
        f'Cache-Control: no-store|Proxy-Status: drainproxy; error={error}; details="{reason}"',
        *(["Retry-After: 1"] if retry else []),
        *(["Connection: close"] if close else []),
    ]
    return "|".join([*lines, "|" + body])


MALFORMED = ("400 Bad Request", "http_request_error", "malformed-head")
REFUSED = ("503 Service Unavailable", "connection_refused", "upstream-refused")
TRANSCRIPTS = {
    "keep-alive: two requests, one connection on either side": """
        C: GET /1 HTTP/1.1|Host: a||
        S+
        S< GET /1 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
        C: GET /2 HTTP/1.1|Host: a||
        S< GET /2 HTTP/1.1|Host: a||
        S: HTTP/1.1 204 No Content||
        C< HTTP/1.1 204 No Content||
    """,
    "pipelined requests are answered in order, one at a time": """
        C: GET /1 HTTP/1.1|Host: a||GET /2 HTTP/1.1|Host: a||GET /3 HTTP/1.1|Host: a||
        S+
        S< GET /1 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 1||1
        C< HTTP/1.1 200 OK|Content-Length: 1||1
        S< GET /2 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 1||2
        C< HTTP/1.1 200 OK|Content-Length: 1||2
        S< GET /3 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 1||3
        C< HTTP/1.1 200 OK|Content-Length: 1||3
    """,
    "a body with a length goes on as it comes": """
        C: POST / HTTP/1.1|Host: a|Content-Length: 6||abc
        S+
        S< POST / HTTP/1.1|Host: a|Content-Length: 6||abc
        C: def
        S< def
        S: HTTP/1.1 201 Created|Content-Length: 0||
        C< HTTP/1.1 201 Created|Content-Length: 0||
    """,
    "an early answer ends both connections": """
        C: POST / HTTP/1.1|Host: a|Content-Length: 6||abc
        S+
        S< POST / HTTP/1.1|Host: a|Content-Length: 6||abc
        S: HTTP/1.1 413 Content Too Large|Content-Length: 2||no
        C< HTTP/1.1 413 Content Too Large|Content-Length: 2|Connection: close||no
        C<.
        S<.
        C: def
        C.
    """,
    "100-continue is the application's to say": """
        C: POST / HTTP/1.1|Host: a|Expect: 100-continue|Content-Length: 3||
        S+
        S< POST / HTTP/1.1|Host: a|Expect: 100-continue|Content-Length: 3||
        S: HTTP/1.1 100 Continue||
        C< HTTP/1.1 100 Continue||
        C: abc
        S< abc
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
    """,
    "100-continue that is refused": """
        C: POST / HTTP/1.1|Host: a|Expect: 100-continue|Content-Length: 3||
        S+
        S< POST / HTTP/1.1|Host: a|Expect: 100-continue|Content-Length: 3||
        S: HTTP/1.1 417 Expectation Failed|Content-Length: 0||
        C< HTTP/1.1 417 Expectation Failed|Content-Length: 0|Connection: close||
        C<.
        S<.
        C.
    """,
    "chunked both ways, framed anew, with trailers": """
        C: POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Trailer: X-Sum||3;ext=1|abc|
        S+
        S< POST / HTTP/1.1|Host: a|Trailer: X-Sum|Transfer-Encoding: chunked||3|abc|
        C: 3|def|0|X-Sum: 1||
        S< 3|def|0|X-Sum: 1||
        S: HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|hi|
        C< HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|hi|
        S: 3;a=b| yo|0|||
        C< 3| yo|0||
        S<.
    """,
    "chunked to a client of 1.0 is unframed, and ends with the connection": """
        C: GET / HTTP/1.0||
        S+
        S< GET / HTTP/1.1|Host: application:80||
        S: HTTP/1.1 200 OK|Transfer-Encoding: chunked||2|hi|
        C< HTTP/1.1 200 OK|Connection: close||hi
        S: 0||
        C<.
    """,
    "an answer until close is chunked for a client of 1.1": """
        C: GET / HTTP/1.1|Host: a||
        S+
        S< GET / HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK||some
        C< HTTP/1.1 200 OK|Transfer-Encoding: chunked||4|some|
        S.
        C< 0||
        S<.
    """,
    "an application of 1.0 is not asked again on its connection": """
        C: GET /1 HTTP/1.1|Host: a||
        S+
        S< GET /1 HTTP/1.1|Host: a||
        S: HTTP/1.0 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
        S<.
        C: GET /2 HTTP/1.1|Host: a||
        S+
        S< GET /2 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
    """,
    "HEAD and 304 have a length and no body": """
        C: HEAD / HTTP/1.1|Host: a||
        S+
        S< HEAD / HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 1000||
        C< HTTP/1.1 200 OK|Content-Length: 1000||
        C: GET / HTTP/1.1|Host: a|If-None-Match: "x"||
        S< GET / HTTP/1.1|Host: a|If-None-Match: "x"||
        S: HTTP/1.1 304 Not Modified|Content-Length: 1000|ETag: "x"||
        C< HTTP/1.1 304 Not Modified|ETag: "x"|Content-Length: 1000||
    """,
    "the client asks for close": """
        C: GET / HTTP/1.1|Host: a|Connection: close||
        S+
        S< GET / HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok
        C<.
        C.
    """,
    "the application closes with its answer: its client's connection stays": """
        C: GET /1 HTTP/1.1|Host: a||
        S+
        S< GET /1 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Connection: close|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
        S<.
        C: GET /2 HTTP/1.1|Host: a||
        S+
        S< GET /2 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
    """,
    "hop-by-hop fields end here": """
        C: GET / HTTP/1.1|Host: a|Connection: X-Hop|X-Hop: 1|Keep-Alive: 5|TE: trailers|X-End: 1||
        S+
        S< GET / HTTP/1.1|Host: a|X-End: 1|TE: trailers|Connection: TE||
        S: HTTP/1.1 200 OK|Connection: X-Mine|X-Mine: 1|Content-Length: 0||
        C< HTTP/1.1 200 OK|Content-Length: 0||
    """,
    "an upgrade that is refused is an answer, after which both end": """
        C: GET / HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: chat||
        S+
        S< GET / HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: chat||
        S: HTTP/1.1 403 Forbidden|Content-Length: 0||
        C< HTTP/1.1 403 Forbidden|Content-Length: 0|Connection: close||
        C<.
        S<.
    """,
    "an upgrade that is agreed to: bytes both ways, and each end as it was": """
        C: GET / HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: chat||early
        S+
        S< GET / HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: chat||
        S: HTTP/1.1 101 Switching Protocols|Connection: Upgrade|Upgrade: chat||hello
        C< HTTP/1.1 101 Switching Protocols|Connection: Upgrade|Upgrade: chat||hello
        S< early
        C: more
        S< more
        C.
        S<.
        S: last
        C< last
        S.
        C<.
    """,
    "an upgrade to h2c is none": """
        C: GET / HTTP/1.1|Host: a|Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABk||
        S+
        S< GET / HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 0||
        C< HTTP/1.1 200 OK|Content-Length: 0||
    """,
    "a drain says close with the next answer": """
        C: GET /1 HTTP/1.1|Host: a||
        S+
        S< GET /1 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
        C: GET /2 HTTP/1.1|Host: a||
        S< GET /2 HTTP/1.1|Host: a||
        SIGTERM
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok
        C<.
        C.
    """,
    "a drain answers what is pipelined, and says close with the last": """
        C: GET /1 HTTP/1.1|Host: a||GET /2 HTTP/1.1|Host: a||
        S+
        S< GET /1 HTTP/1.1|Host: a||
        SIGTERM
        S: HTTP/1.1 200 OK|Content-Length: 1||1
        C< HTTP/1.1 200 OK|Content-Length: 1||1
        S< GET /2 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 1||2
        C< HTTP/1.1 200 OK|Content-Length: 1|Connection: close||2
        C<.
    """,
    "a malformed head is told so, and nobody else hears of it": f"""
        C: GET / HTTP/1.1|Host : a||
        C< {reply(*MALFORMED)}
        C<.
    """,
    "two lengths: refused before anybody is asked": f"""
        C: POST / HTTP/1.1|Host: a|Content-Length: 3|Content-Length: 4||abc
        C< {reply(*MALFORMED)}
        C<.
    """,
    "a malformed head behind a good request is told in its turn": f"""
        C: GET /1 HTTP/1.1|Host: a||nonsense||
        S+
        S< GET /1 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok{reply(*MALFORMED)}
        C<.
    """,
    "a malformed chunk is told, and the application sees no end of the body": f"""
        C: POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|
        S+
        S< POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|
        C: x|
        C< {reply("400 Bad Request", "http_request_error", "malformed-body")}
        C<.
        S<.
    """,
    "an answer whose head is none": f"""
        C: GET / HTTP/1.1|Host: a||
        S+
        S< GET / HTTP/1.1|Host: a||
        S: nonsense||
        C< {reply("502 Bad Gateway", "http_protocol_error", "upstream-malformed", close=False)}
        S<.
        C: GET /2 HTTP/1.1|Host: a||
        S+
        S< GET /2 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
    """,
    "an answer that breaks off is a reset, not an end": """
        C: GET / HTTP/1.1|Host: a||
        S+
        S< GET / HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 10||abc
        C< HTTP/1.1 200 OK|Content-Length: 10||abc
        S.
        C<!
        S<.
    """,
    "an application that hangs up without a word": f"""
        C: GET / HTTP/1.1|Host: a||
        S+
        S< GET / HTTP/1.1|Host: a||
        S.
        C< {reply("502 Bad Gateway", "connection_terminated", "upstream-gone", close=False)}
        S<.
    """,
    "a kept connection that meets a close: asked again once, on a new one": """
        C: GET /1 HTTP/1.1|Host: a||
        S+
        S< GET /1 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
        C: GET /2 HTTP/1.1|Host: a||
        S< GET /2 HTTP/1.1|Host: a||
        S.
        S<.
        S+
        S< GET /2 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
    """,
    "a request with a body that meets a close is not asked again": f"""
        C: GET /1 HTTP/1.1|Host: a||
        S+
        S< GET /1 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
        C: POST /2 HTTP/1.1|Host: a|Content-Length: 3||abc
        S< POST /2 HTTP/1.1|Host: a|Content-Length: 3||abc
        S.
        C< {reply("502 Bad Gateway", "connection_terminated", "upstream-gone", close=False)}
        S<.
    """,
    "a half-close with a request under way takes it along": """
        C: GET / HTTP/1.1|Host: a||
        S+
        S< GET / HTTP/1.1|Host: a||
        C.
        C<.
        S<.
    """,
    "a reset takes the request along": """
        C: GET / HTTP/1.1|Host: a||
        S+
        S< GET / HTTP/1.1|Host: a||
        C!
        C<.
        S<.
    """,
    "a half-close between two requests ends the connection": """
        C: GET / HTTP/1.1|Host: a||
        S+
        S< GET / HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
        C.
        C<.
    """,
    "stray bytes behind an answer end the connection they came on": """
        C: GET /1 HTTP/1.1|Host: a||
        S+
        S< GET /1 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||okstray
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
        S<.
        C: GET /2 HTTP/1.1|Host: a||
        S+
        S< GET /2 HTTP/1.1|Host: a||
        S: HTTP/1.1 200 OK|Content-Length: 2||ok
        C< HTTP/1.1 200 OK|Content-Length: 2||ok
    """,
    "nobody listens": f"""
        refused
        C: GET / HTTP/1.1|Host: a||
        C< {reply(*REFUSED, retry=True, close=False)}
    """,
}
CUT_ANYWHERE = [name for name, text in TRANSCRIPTS.items() if "chunked" not in text]
"""A chunk is passed on as it comes: cut otherwise, it is framed otherwise."""
HALF_CLOSED = """
    C: GET / HTTP/1.1|Host: a||
    S+
    S< GET / HTTP/1.1|Host: a||
    C.
    S: HTTP/1.1 200 OK|Content-Length: 2||ok
    C< HTTP/1.1 200 OK|Content-Length: 2|Connection: close||ok
    C<.
"""


@pytest.mark.parametrize("name", TRANSCRIPTS)
@in_fake_time
async def test_a_conversation_is_as_it_is_written_here(name: str) -> None:
    """Every byte that either side gets stands in it."""
    await Stage().play(TRANSCRIPTS[name])


@pytest.mark.parametrize("name", CUT_ANYWHERE)
@in_fake_time
async def test_it_is_the_same_byte_by_byte(name: str) -> None:
    """However a network cuts it up."""
    await Stage().play(TRANSCRIPTS[name], bytewise=True)


@in_fake_time
async def test_a_client_may_half_close_where_that_is_allowed() -> None:
    """It has said all it has to say, and is answered."""
    await Stage(allow_half_close=True).play(HALF_CLOSED)


@in_fake_time
async def test_a_transcript_that_leaves_something_out_fails() -> None:
    """Or the others would prove little: a connection, bytes, an end."""
    asked = "C: GET / HTTP/1.1|Host: a|Connection: close||"
    got = "S+\nS< GET / HTTP/1.1|Host: a||"
    said = "S: HTTP/1.1 200 OK|Content-Length: 2||ok"
    for transcript in (asked, f"{asked}\nS+", f"{asked}\n{got}\n{said}"):
        with pytest.raises(AssertionError, match="before 'the end'"):
            await Stage().play(transcript)
