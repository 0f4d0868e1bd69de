"""The data plane's settings. The string under each field is the manual (docs/configuration.md)."""

from dataclasses import dataclass
from typing import Literal

from drainproxy.addresses import ListenAddress, UpstreamAddress
from drainproxy.kinds import (
    CloseCode,
    Count,
    Duration,
    File,
    LoopbackAddress,
    OrOff,
    Places,
    PositiveDuration,
    Size,
    Switch,
    TotalSize,
    TrafficAddress,
    Upstream,
    UrlPath,
    WarmUntil,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """Durations in seconds; None means "not set"."""

    listen: tuple[TrafficAddress, ...] = (ListenAddress(None, 28080),)
    """Addresses to serve, comma-separated, each paired with the upstream at the same place in its
    list. An empty host means every address, IPv4 and IPv6; pod means those of `pod_ips`. With https:// before
    it, callers speak TLS."""

    open_when: Literal["start", "application"] = "start"
    """When callers are let in for the first time: at the start, or once the application accepts connections,
    so that whoever only connects (a tcpSocket probe) is not told too much. An address that the application
    holds itself is then asked for again and again, and until it is free /readyz says 503 and why."""

    upstream: tuple[Upstream, ...] = (UpstreamAddress("127.0.0.1", 8080),)
    """Where the application listens: http://host:port, https://host:port or unix:/path, comma-separated,
    one a `listen`; what comes for a tcp://host:port is passed on unread, whatever it speaks."""

    upstream_source: LoopbackAddress = "127.0.0.6"
    """From where an application at an IPv4 address of loopback is connected to (Linux). Other processes of
    the pod come from 127.0.0.1: an application that trusts that address is not to trust the whole world."""

    upstream_proxy_protocol: Literal["off", "v1", "v2"] = "off"
    """Begin each connection to a tcp:// upstream with a PROXY header of this version: the client's address
    and port, and those it has connected to."""

    connect_timeout: OrOff[PositiveDuration] = None
    """How long connecting to the application may take, then 504. Default: as long as the caller waits; an
    application that is slow to accept is not gone, and one that refuses is known at once. While it starts,
    refused connects are retried for so long, then 503; 3s where nothing is set."""

    breaker_cooldown: OrOff[PositiveDuration] = 0.25
    """After five connects in a row that were refused, requests that need a new connection get 503 at once
    for this long; then they try again. Short, so that an application that is back is not kept waiting."""

    hold_while_down: OrOff[PositiveDuration] = None
    """While the application refuses connections that it took before, requests wait up to so long for its
    return, then get 503; nothing of a body is read meanwhile. Default: off, callers are refused, and find
    another pod if there is one."""

    handoff: Literal["off", "on", "limits"] = "off"
    """What this pod cannot serve goes to another ready pod of its Service: the application refuses
    connections, a drain is near its end or over, an upgrade comes while it leaves. on: for HTTP/1 that can be
    asked safely. limits: what `max_in_flight` refuses, too. Needs `rbac` slices."""

    head_timeout: PositiveDuration = 10.0
    """A client that has begun a request head must finish it in this time, or gets 408."""

    response_head_timeout: OrOff[PositiveDuration] = None
    """How long the application may take to begin its answer, then 504. Default: as long as it likes, since
    the caller has a timeout of its own."""

    total_timeout: OrOff[PositiveDuration] = None
    """How long one request may take in all, then 504 or a cut. Default: as long as it likes."""

    keepalive_idle: PositiveDuration = 620.0
    """Idle client connections are closed after this long. Google's balancer keeps its own for 600 s and must
    be outlived."""

    tcp_keepalive_idle: OrOff[PositiveDuration] = 15.0
    """A connection, of a client or to the application, on which nothing has come for so long is asked by the
    kernel whether its peer is still there (SO_KEEPALIVE, TCP_KEEPIDLE; whole seconds). A peer that vanished
    is gone after 90 s in all, and balancers that forget idle flows see none. off: never asked."""

    tcp_keepalive_interval: Duration = 15.0
    """With `tcp_keepalive_idle`: it is asked again after so long (TCP_KEEPINTVL)."""

    tcp_keepalive_probes: Count = 5
    """With `tcp_keepalive_idle`: so many questions without an answer, and the connection is gone
    (TCP_KEEPCNT, at most 127)."""

    tcp_user_timeout: OrOff[PositiveDuration] = None
    """Data that a peer has not acknowledged, or has no room for, ends the connection after so long
    (TCP_USER_TIMEOUT). Default: off, since a client that pauses a download has no room and is there; a
    vanished one is given up by the kernel after a quarter of an hour (net.ipv4.tcp_retries2)."""

    max_connection_age: OrOff[PositiveDuration] = None
    """A client connection this old is closed after its next answer, or at once while it is idle; each a tenth
    earlier or later, so that clients do not come back as one herd. For balancers that would never spread
    long-lived connections over new pods. Default: off."""

    upstream_idle: PositiveDuration = 4.0
    """Idle connections to the application are closed after this long. Node and uvicorn close theirs after
    5 s; an announced Keep-Alive timeout shortens it further. Where kept ones hold the threads or processes
    that others wait for, that is found out, and none is kept for a while (`upstream_reuse_off`)."""

    allow_half_close: Switch = False
    """Serve on when a client has shut down its sending side. Default: it counts as gone, as in nginx."""

    websocket_close_code: CloseCode = 1001
    """Status of the Close that WebSockets are sent in a drain: 1001 says that the server goes away
    (RFC 6455 section 7.4.1). Some clients come back sooner after 1012."""

    streams: Literal["leave", "finish"] | None = None
    """What a drain asks of event streams. leave: end between two events, for the client to come back
    elsewhere. finish: they are requests, which run to the drain's deadline and are then cut so that it shows.
    Default: leave for a GET that says `Accept: text/event-stream`, as EventSource does, which comes back by
    itself; finish for all others, whose readers would take half an answer for the whole."""

    websockets: Literal["leave", "finish"] = "leave"
    """What a drain asks of WebSockets. leave: they get a Close between two messages. finish: they run until
    shortly before the drain's deadline. For work that is not taken up again by coming back."""

    max_connections: Places | None = None
    """Beyond so many client connections, of all listeners together, the longest idle one is closed to make
    room; if none is idle, a new one gets 503, but for health checks. Default: the least of 10000, one for
    each 8KiB of four fifths of the memory limit above 48MiB (8192 with 128MiB), and what the limit of open
    files allows. A set value is bounded by open files only. What connections hold is counted as it comes."""

    max_connections_per_ip: OrOff[Count] = None
    """So many connections from one address are served at a time; further ones get 503. Default: off, since
    a balancer or a node's address may stand for any number of clients."""

    max_buffer_bytes: TotalSize | None = None
    """Beyond so many bytes held for clients and applications that do not take them, every connection reads
    little at a time, and what is large and no request yet gets 503. Default: a quarter of the memory limit
    (cgroup version 1 or 2) or half of what is above 48MiB, the less; 256MiB where there is none."""

    max_in_flight: OrOff[Count] = None
    """So many requests are in the application at a time; further ones wait for their turn. What became of a
    request after its 101 does not count. Default: off, since the application was there without it."""

    max_queued: OrOff[Count] = 100
    """With `max_in_flight`: so many requests wait, and the next one gets 503 at once; off for none."""

    queue_timeout: PositiveDuration = 2.0
    """With `max_in_flight`: a request that has waited for its turn this long gets 503."""

    max_request_line_bytes: Size = 16 * 1024
    """A longer request line gets 414."""

    max_fields: Count = 100
    """More fields in one head get 431."""

    max_head_bytes: Size = 64 * 1024
    """A larger head gets 431."""

    max_body_bytes: OrOff[TotalSize] = None
    """A request with a larger body gets 413: at once if it says so, else when it has gone so far.
    Default: off, since the application has a limit of its own or wants none."""

    routes: File | None = None
    """YAML file with routes: timeouts by path and method (see Routes below)."""

    health_paths: tuple[UrlPath, ...] = ()
    """Exact paths on the traffic port that balancers ask for health, like /healthz. They are forwarded while
    this pod is ready and answered with 503 and close while it drains, and never count as traffic."""

    upstream_http2: Literal["auto", "on", "off"] = "auto"
    """Pass HTTP/2 connections of clients through to the application, frame by frame. auto: one that does not
    speak it is found out by the first such client, which then gets GOAWAY HTTP_1_1_REQUIRED. on: it does, and
    callers over TLS are offered HTTP/2."""

    h2_inspect: Switch = False
    """Read what HTTP/2 clients ask, for routes, `/status`, access lines, and a gRPC status instead of a reset
    at a deadline. Costs the more, the less a client repeats itself; needs `drainproxy[http2]`."""

    h2_max_streams: Count = 1000
    """Open streams of one HTTP/2 connection; the application's own lower limit stays. More are refused with
    REFUSED_STREAM, and end the connection when they are more than `h2_max_resets` a second."""

    h2_max_frame_bytes: Size = 64 * 1024
    """Largest HTTP/2 frame that either side may announce to take: one is held until it is complete."""

    h2_max_resets: Count = 200
    """Streams a second that one client has reset within a second and without an answer, or has made the
    application reset, as a mean over 10 s; ten more for each stream that was answered, so that hedged and
    cancelled calls pass and a flood does not (rapid reset, CVE-2023-44487; MadeYouReset, CVE-2025-8671)."""

    h2_max_pings: Count = 2000
    """PING frames, and empty DATA frames, a second from one client, as a mean over 10 s. gRPC measures its
    bandwidth with one PING a round trip."""

    warmup: tuple[UrlPath, ...] = ()
    """Paths that the application is asked for, in turn, before the pod is ready for the first time; for gRPC
    /package.Service/Method, such as /grpc.health.v1.Health/Check. Default: none, no warm-up."""

    warmup_method: Literal["GET", "HEAD", "POST", "grpc"] = "GET"
    """With `warmup`: how it is asked, with no body; grpc: by a unary call with an empty message."""

    warmup_count: Count = 200
    """With `warmup`: so many requests, to each application that speaks HTTP."""

    warmup_concurrency: Count = 4
    """With `warmup`: so many at a time."""

    warmup_timeout: PositiveDuration = 30.0
    """With `warmup`: after so long the pod is ready all the same. Requests that come meanwhile are served."""

    warmup_until: OrOff[WarmUntil] = None
    """With `warmup`: it is over once ten answers in a row have this status, or took no longer than this, and
    not after `warmup_count`."""

    probe_path: UrlPath | None = None
    """GET this path of the application to learn that it is up: any answer below 500 will do.
    Default: a TCP connect, which a tcp:// upstream gets always. Asked at the start, and while there is doubt:
    after a failure, or in a silence of 30 s where the kernel cannot tell whether anybody listens."""
