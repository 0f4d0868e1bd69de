"""Everything that can go wrong with a request, as a tree whose type says who is to blame.

A leaf fixes three facts that must agree everywhere: the status a client sees, a kebab-case `reason`
(log field, metric label, row of docs/errors.md) and the error type of RFC 9209. `proxy/message/replies.py` is
the only place that turns one into bytes.
"""

from enum import Enum
from typing import Any, ClassVar


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


class OutOfPlace(InjectionRefused):
    """The sidecar has no business in this pod: whoever asked for every pod does not miss it here."""

    def __init__(self, problem: str) -> None:
        super().__init__("refused", [problem])


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


_TURNS_AWAY = frozenset({Blame.CLIENT, Blame.POLICY})


class RequestError(DrainproxyError):
    """One request that gets an error reply, or a cut where its response has already begun."""

    blame: ClassVar[Blame]
    status: ClassVar[int]
    reason: ClassVar[str]
    proxy_status: ClassVar[str]
    """Error type of RFC 9209 section 2.3."""
    retry_after_s: ClassVar[int | None] = None
    closes: ClassVar[bool] = False
    """The client's connection cannot, or should not, carry another request after it."""
    midway: ClassVar[bool] = False
    """The request may be with the application when it comes: that one has failed, and was not turned away."""
    sent = False
    """It had been handed to a connection to the application."""

    def __init_subclass__(cls, **facts: Any) -> None:
        """Take the facts that a class names beside its root."""
        for name, value in facts.items():
            setattr(cls, name, value)

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.reason)
        self.detail = detail

    @property
    def refused(self) -> bool:
        """It turned the request away (`refused_total`); what has failed is counted apart (`errors_total`)."""
        return self.blame in _TURNS_AWAY and not self.sent


class ClientError(
    RequestError, blame=Blame.CLIENT, status=400, proxy_status="http_request_error", closes=True
):
    """The client's doing: nothing of it reached the application unless a body broke half-way.

    It closes: where its next request begins cannot be trusted.
    """


class MalformedHead(ClientError, reason="malformed-head"):
    """The request line or a field does not parse, or holds a byte it must not (RFC 9112 section 2.2)."""


class AmbiguousFraming(ClientError, reason="ambiguous-framing"):
    """Two readings of the message's length exist (RFC 9112 section 6.3)."""


class InvalidHost(ClientError, reason="invalid-host"):
    """Host is missing, repeated or not `host[:port]` (RFC 9112 section 3.2)."""


class InvalidTarget(ClientError, reason="invalid-target"):
    """The request target has none of the four forms of RFC 9112 section 3.2."""


class MalformedBody(ClientError, reason="malformed-body", midway=True):
    """A chunk or trailer does not parse: the forwarded request is never completed."""


class UnsupportedCoding(ClientError, status=501, reason="unsupported-transfer-coding"):
    """A transfer coding other than one final `chunked` (RFC 9112 section 6.1)."""


class UnknownMethod(ClientError, status=501, reason="unknown-method"):
    """A method the parser has never heard of: its framing cannot be trusted."""


class MethodRefused(ClientError, status=405, reason="method-refused"):
    """CONNECT and TRACE are not for a gateway in front of one application."""


class UnsupportedVersion(ClientError, status=505, reason="unsupported-version"):
    """Neither HTTP/1.0 nor HTTP/1.1."""


class TargetTooLong(ClientError, status=414, reason="target-too-long"):
    """The request line is over its limit."""


class FieldsTooLarge(ClientError, status=431, reason="fields-too-large"):
    """Too many fields, or too many bytes of them (RFC 6585 section 5)."""


class BodyTooLarge(ClientError, status=413, reason="body-too-large", midway=True):
    """The request's body is over `max_body_bytes` (RFC 9110 section 15.5.14)."""


class ProxyHeaderRefused(ClientError, reason="proxy-header-refused"):
    """The connection did not begin with a PROXY header from one of `trusted_proxies`: closed, no answer."""


class LoopDetected(ClientError, status=508, reason="loop-detected", proxy_status="proxy_loop_detected"):
    """The request has been here before: its Via holds this process's own pseudonym (`via`)."""


class HeadTimeout(ClientError, status=408, reason="head-timeout"):
    """The client began a head and did not finish it in time."""


class BodyTimeout(ClientError, status=408, reason="body-timeout", midway=True):
    """The client had not sent its whole body when the time for the request was up."""


class ClientIdle(ClientError, status=408, reason="client-idle", midway=True):
    """The client sent no byte of its body, or made no room for its answer, within the route's `idle`."""


class ClientGone(ClientError, status=499, reason="client-gone", midway=True):
    """The client left before its answer was complete: nobody is there to reply to."""


class UpstreamError(RequestError, blame=Blame.UPSTREAM, status=502, proxy_status="http_protocol_error"):
    """The application's doing."""


class UpstreamRefused(
    UpstreamError, status=503, reason="upstream-refused", proxy_status="connection_refused", retry_after_s=1
):
    """The application does not accept connections: it is not up."""


class HoldTimeout(
    UpstreamError,
    status=503,
    reason="hold-timeout",
    proxy_status="connection_refused",
    retry_after_s=1,
    closes=True,
):
    """The application refused connections, and was not back within `hold_while_down`."""


class UpstreamUntrusted(UpstreamError, reason="upstream-untrusted", proxy_status="tls_certificate_error"):
    """The application's certificate is not to be believed (`upstream_ca`, `upstream_server_name`)."""


class UpstreamHandshakeFailed(
    UpstreamError, reason="upstream-handshake-failed", proxy_status="tls_protocol_error"
):
    """The application does not speak TLS, or no version and cipher of it that we do."""


class ConnectTimeout(UpstreamError, status=504, reason="connect-timeout", proxy_status="connection_timeout"):
    """The application's listener did not answer in `connect_timeout`."""


class UpstreamGone(UpstreamError, reason="upstream-gone", proxy_status="connection_terminated"):
    """The application closed its connection before the response was complete."""


class UpstreamMalformed(UpstreamError, reason="upstream-malformed"):
    """The application sent something that is not an unambiguous HTTP/1 response."""


class ResponseHeadTimeout(
    UpstreamError, status=504, reason="response-head-timeout", proxy_status="http_response_timeout"
):
    """No response head within `response_head_timeout`."""


class IdleTimeout(UpstreamError, status=504, reason="idle-timeout", proxy_status="http_response_timeout"):
    """No byte of the request's body or of its answer moved within the route's `idle`."""


class TotalTimeout(UpstreamError, status=504, reason="total-timeout", proxy_status="http_response_timeout"):
    """The exchange took longer than `total_timeout`."""


class Refusal(
    RequestError, blame=Blame.POLICY, status=503, proxy_status="proxy_internal_response", retry_after_s=1
):
    """Turned away by policy before a byte of it reached the application, or ended by the drain."""


class DrainEnding(Refusal, reason="drain-ending"):
    """A request that came with less than `refuse_window` of the drain left."""


class Draining(Refusal, reason="draining", closes=True):
    """A health check on the traffic port (`health_paths`), or an upgrade, that must hear that this pod is
    leaving, and does not come back on this connection."""


class DrainDeadline(Refusal, reason="drain-deadline", midway=True):
    """The drain's deadline passed while the request was being answered, or the drain was ended before that: a
    person insisted (the second SIGINT), or the application was gone."""


class LeaveOverdue(Refusal, reason="leave-overdue", midway=True):
    """An event stream or a WebSocket that a drain had told to leave, and whose application has stopped in
    the middle of an event or a frame: cut."""


class LimitReached(Refusal):
    """A limit of this process: what is under way goes on, what is new has to come again."""


class TooManyConnections(LimitReached, reason="too-many-connections", closes=True):
    """A new connection beyond `max_connections`, while none of the others was idle."""


class TooManyPerClient(LimitReached, reason="too-many-per-client", closes=True):
    """A new connection beyond `max_connections_per_ip` from one address."""


class QueueFull(LimitReached, reason="queue-full", proxy_status="connection_limit_reached"):
    """`max_in_flight` requests are in the application and `max_queued` wait."""


class QueueTimeout(LimitReached, reason="queue-timeout", proxy_status="connection_limit_reached"):
    """No turn came within `queue_timeout`."""


class BreakerOpen(LimitReached, reason="breaker-open", proxy_status="destination_unavailable", midway=True):
    """The last connects to the application were refused, and `breaker_cooldown` is not over yet."""


class OutOfBuffers(LimitReached, reason="out-of-buffers", closes=True, midway=True):
    """Memory is scarce: something large that has begun and is no request yet, a request with a large head,
    or, where there is no room at all, any new one."""


class TooManyStreams(LimitReached, reason="too-many-streams", proxy_status="connection_limit_reached"):
    """An HTTP/2 stream beyond `h2_max_streams` of its connection: RST_STREAM with REFUSED_STREAM."""


class OutOfDescriptors(LimitReached, reason="out-of-descriptors", midway=True):
    """No descriptor was left for a connection to the application."""


class OutOfSockets(LimitReached, reason="out-of-sockets", midway=True):
    """The kernel had no local port, or no memory, for a connection to the application."""


LIMITS = (LimitReached, BodyTooLarge)
"""What a limit refuses: the caller came, and was turned away here."""


class InternalError(
    RequestError, blame=Blame.OURS, status=500, reason="internal", proxy_status="proxy_internal_error"
):
    """A defect of drainproxy."""


def leaves(root: type[RequestError] = RequestError) -> list[type[RequestError]]:
    """Return every concrete request error below `root`, in the order of this file."""
    children = root.__subclasses__()
    if not children:
        return [root]
    return [leaf for child in children for leaf in leaves(child)]


def refusals() -> list[str]:
    """Return the reasons for which a request can be turned away."""
    return [leaf.reason for leaf in leaves() if leaf.blame in _TURNS_AWAY]


def failures() -> list[str]:
    """Return the reasons for which a request can fail that was not turned away."""
    return [leaf.reason for leaf in leaves() if leaf.midway or leaf.blame not in _TURNS_AWAY]
