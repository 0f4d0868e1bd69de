"""Everything that can go wrong with a request, as a tree whose type says who is to blame.

A leaf fixes three facts that must agree everywhere: the status a client sees, a kebab-case `reason`
(log field, metric label, row of docs/errors.md) and the error type of RFC 9209. `proxy/replies.py` is
the only place that turns one into bytes.
"""

from enum import Enum
from typing import ClassVar


class Blame(Enum):
    """Whose doing an error is."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    POLICY = "policy"
    OURS = "drainproxy"


class DrainproxyError(Exception):
    """Root of every error this package raises on purpose."""


class ConfigError(DrainproxyError):
    """Settings that cannot be run. Carries every problem found, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class CertificateError(DrainproxyError):
    """A certificate, its key or a list of authorities cannot be used."""


class InjectionRefused(DrainproxyError):
    """A pod stays as it is, though it asked for the sidecar. Carries one sentence a reason.

    `result` is invalid (what its annotations say), refused (what it is) or malformed (it is no pod).
    """

    def __init__(self, result: str, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.result = result
        self.problems = problems


class ListenError(DrainproxyError):
    """A listening socket could not be bound."""


class KubernetesError(DrainproxyError):
    """The Kubernetes API did not do what it was asked.

    `reason` is denied, absent, gone, throttled, error, timeout, unreachable or malformed; `retry_after_s`
    what the server asked for.
    """

    def __init__(self, message: str, *, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after_s = retry_after_s


class RequestError(DrainproxyError):
    """One request that gets an error reply, or a cut where its response has already begun.

    `sent` is True once a byte of the request was handed to the application's connection.
    """

    blame: ClassVar[Blame]
    status: ClassVar[int]
    reason: ClassVar[str]
    proxy_status: ClassVar[str]
    """Error type of RFC 9209 section 2.3."""
    retry_after_s: ClassVar[int | None] = None
    closes: ClassVar[bool] = False
    """The client's connection cannot, or should not, carry another request after it."""

    def __init__(self, detail: str = "", *, sent: bool = False) -> None:
        super().__init__(detail or self.reason)
        self.detail = detail
        self.sent = sent


class ClientError(RequestError):
    """The client's doing: nothing of it reached the application unless a body broke half-way."""

    blame = Blame.CLIENT
    status = 400
    proxy_status = "http_request_error"
    closes = True  # where its next request begins cannot be trusted


class MalformedHead(ClientError):
    """The request line or a field does not parse, or holds a byte it must not (RFC 9112 section 2.2)."""

    reason = "malformed-head"


class AmbiguousFraming(ClientError):
    """Two readings of the message's length exist (RFC 9112 section 6.3)."""

    reason = "ambiguous-framing"


class InvalidHost(ClientError):
    """Host is missing, repeated or not `host[:port]` (RFC 9112 section 3.2)."""

    reason = "invalid-host"


class InvalidTarget(ClientError):
    """The request target has none of the four forms of RFC 9112 section 3.2."""

    reason = "invalid-target"


class MalformedBody(ClientError):
    """A chunk or trailer does not parse: the forwarded request is never completed."""

    reason = "malformed-body"


class UnsupportedCoding(ClientError):
    """A transfer coding other than one final `chunked` (RFC 9112 section 6.1)."""

    status = 501
    reason = "unsupported-transfer-coding"


class UnknownMethod(ClientError):
    """A method the parser has never heard of: its framing cannot be trusted."""

    status = 501
    reason = "unknown-method"


class MethodRefused(ClientError):
    """CONNECT and TRACE are not for a gateway in front of one application."""

    status = 405
    reason = "method-refused"


class UnsupportedVersion(ClientError):
    """Neither HTTP/1.0 nor HTTP/1.1."""

    status = 505
    reason = "unsupported-version"


class TargetTooLong(ClientError):
    """The request line is over its limit."""

    status = 414
    reason = "target-too-long"


class FieldsTooLarge(ClientError):
    """Too many fields, or too many bytes of them (RFC 6585 section 5)."""

    status = 431
    reason = "fields-too-large"


class BodyTooLarge(ClientError):
    """The request's body is over `max_body_bytes` (RFC 9110 section 15.5.14)."""

    status = 413
    reason = "body-too-large"


class ProxyHeaderRefused(ClientError):
    """The connection did not begin with a PROXY header from one of `trusted_proxies`: closed, no answer."""

    reason = "proxy-header-refused"


class LoopDetected(ClientError):
    """The request has been here before: its Via holds this process's own pseudonym (`via`)."""

    status = 508
    reason = "loop-detected"
    proxy_status = "proxy_loop_detected"


class HeadTimeout(ClientError):
    """The client began a head and did not finish it in time."""

    status = 408
    reason = "head-timeout"


class ClientIdle(ClientError):
    """The client sent no byte of its body, or made no room for its answer, within the route's `idle`."""

    status = 408
    reason = "client-idle"


class ClientGone(ClientError):
    """The client left before its answer was complete: nobody is there to reply to."""

    status = 499
    reason = "client-gone"


class UpstreamError(RequestError):
    """The application's doing."""

    blame = Blame.UPSTREAM
    status = 502
    proxy_status = "http_protocol_error"


class UpstreamRefused(UpstreamError):
    """The application does not accept connections: it is not up."""

    status = 503
    reason = "upstream-refused"
    proxy_status = "connection_refused"
    retry_after_s = 1


class UpstreamUntrusted(UpstreamError):
    """The application's certificate is not to be believed (`upstream_ca`, `upstream_server_name`)."""

    reason = "upstream-untrusted"
    proxy_status = "tls_certificate_error"


class UpstreamHandshakeFailed(UpstreamError):
    """The application does not speak TLS, or no version and cipher of it that we do."""

    reason = "upstream-handshake-failed"
    proxy_status = "tls_protocol_error"


class ConnectTimeout(UpstreamError):
    """The application's listener did not answer in `connect_timeout`."""

    status = 504
    reason = "connect-timeout"
    proxy_status = "connection_timeout"


class UpstreamGone(UpstreamError):
    """The application closed its connection before the response was complete."""

    reason = "upstream-gone"
    proxy_status = "connection_terminated"


class UpstreamMalformed(UpstreamError):
    """The application sent something that is not an unambiguous HTTP/1 response."""

    reason = "upstream-malformed"


class ResponseHeadTimeout(UpstreamError):
    """No response head within `response_head_timeout`."""

    status = 504
    reason = "response-head-timeout"
    proxy_status = "http_response_timeout"


class IdleTimeout(UpstreamError):
    """No byte of the request's body or of its answer moved within the route's `idle`."""

    status = 504
    reason = "idle-timeout"
    proxy_status = "http_response_timeout"


class TotalTimeout(UpstreamError):
    """The exchange took longer than `total_timeout`."""

    status = 504
    reason = "total-timeout"
    proxy_status = "http_response_timeout"


class Refusal(RequestError):
    """Turned away by policy before a byte of it reached the application, or ended by the drain."""

    blame = Blame.POLICY
    status = 503
    proxy_status = "proxy_internal_response"
    retry_after_s = 1


class DrainEnding(Refusal):
    """A request that came with less than `refuse_window` of the drain left."""

    reason = "drain-ending"


class Draining(Refusal):
    """A health check on the traffic port (`health_paths`), or an upgrade, that must hear that this pod is
    leaving."""

    reason = "draining"
    closes = True  # and does not come back on this connection


class DrainDeadline(Refusal):
    """The drain's deadline passed while the request was being answered."""

    reason = "drain-deadline"


class LimitReached(Refusal):
    """A limit of this process: what is under way goes on, what is new has to come again."""


class TooManyConnections(LimitReached):
    """A new connection beyond `max_connections`, while none of the others was idle."""

    reason = "too-many-connections"
    closes = True


class TooManyPerClient(LimitReached):
    """A new connection beyond `max_connections_per_ip` from one address."""

    reason = "too-many-per-client"
    closes = True


class QueueFull(LimitReached):
    """`max_in_flight` requests are in the application and `max_queued` wait."""

    reason = "queue-full"
    proxy_status = "connection_limit_reached"


class QueueTimeout(LimitReached):
    """No turn came within `queue_timeout`."""

    reason = "queue-timeout"
    proxy_status = "connection_limit_reached"


class BreakerOpen(LimitReached):
    """The last connects to the application have failed, and `breaker_cooldown` is not over yet."""

    reason = "breaker-open"
    proxy_status = "destination_unavailable"


class OutOfBuffers(LimitReached):
    """A large head that is not complete, while more than `max_buffer_bytes` are held."""

    reason = "out-of-buffers"
    closes = True


class OutOfDescriptors(LimitReached):
    """No descriptor was left for a connection to the application."""

    reason = "out-of-descriptors"


class InternalError(RequestError):
    """A defect of drainproxy."""

    blame = Blame.OURS
    status = 500
    reason = "internal"
    proxy_status = "proxy_internal_error"


def leaves(root: type[RequestError] = RequestError) -> list[type[RequestError]]:
    """Return every concrete request error below `root`, in the order of this file."""
    children = root.__subclasses__()
    if not children:
        return [root]
    return [leaf for child in children for leaf in leaves(child)]
