"""What is a client's connection in the middle of in HTTP/1, what may follow, and what does that mean?

Three tables and no behaviour, after h11's and hyper's: a connection has a Reading and a Reuse, its exchange a
Writing. None in a cell cannot be; its transition raises KeyError, which is a defect of ours: it is
logged, and costs one connection. How the socket ends is told apart (downstream/states.py), and overrules all
three.

Of Reading and Writing, twelve pairs can be: IDLE, HEAD and REPLYING without an exchange; EXPECTED with one
that is WAITING, since a body is taken once the application is reached; BODY and AHEAD with any that has not
ENDED.

These vary freely beside them, and so stay booleans: that the application takes no more of the body
(`_body_paused`), that TLS holds half a record (`_sealed`), that what waits is in the account (`_held`: saves
a look into it), and of an exchange `close`, `chunked_out`, `body_read` and `request_read`, which say how its
messages are framed, and are read once they are decided.
"""

from enum import Enum, IntEnum
from typing import Final

from drainproxy.proxy.downstream.states import table


class Reading(IntEnum):
    """What the bytes are that come next. Up to HEAD the connection is between two requests."""

    IDLE = 0  # the first ones of a head
    HEAD = 1  # more of a head, or of the record of TLS that it is in
    EXPECTED = 2  # a body for an application that is not reached yet: they wait
    BODY = 3  # the request's body: they go on
    AHEAD = 4  # a request that has to wait until the one before it is answered
    REPLYING = 5  # the same, behind an answer of ours


class Read(Enum):
    """What moves it on."""

    NOTHING = "nothing"  # of the next head is here
    PART = "part"  # of it is
    REQUEST = "request"  # without a body, given to an exchange
    UPLOAD = "upload"  # a request with a body, given to an exchange
    ASKED = "asked"  # the exchange takes the body from now on
    BODY = "body"  # has ended
    REPLY = "reply"  # of ours is on its way, and the connection is kept
    ANSWER = "answer"  # is out, or there will be none


class Writing(IntEnum):
    """How far an exchange is with its answer. From ANSWERED on nothing changes how it has ended."""

    WAITING = 0  # for its first byte
    RESPONDING = 1  # it comes, and is passed on as it comes
    FLUSHING = 2  # all has come, and the client's socket has not taken all of it: a drain waits for that
    ANSWERED = 3  # all of it is in this turn's batch
    ENDED = 4  # delivered, failed, or handed over to another protocol


class Write(Enum):
    """What moves it on."""

    BYTES = "bytes"  # of an answer have come
    LAST = "last"  # of them has
    UNSENT = "unsent"  # is some of it, behind the batch
    DELIVERED = "delivered"
    FAILED = "failed"
    SWITCHED = "switched"


class Reuse(IntEnum):
    """Whether what comes behind the present request is answered, as far as the connection knows."""

    MAY = 0  # be
    LAST = 1  # only what has come by the time of the next answer (RFC 9112 section 9.6)
    NEVER = 2  # it is thrown away, and the connection ends with the present answer


class Doubt(Enum):
    """What speaks against it."""

    AGE = "age"  # max_connection_age
    EOF = "eof"  # the client sends no more
    SHED = "shed"  # there was no memory for what came


IDLE: Final = Reading.IDLE
HEAD: Final = Reading.HEAD
EXPECTED: Final = Reading.EXPECTED
BODY: Final = Reading.BODY
AHEAD: Final = Reading.AHEAD
REPLYING: Final = Reading.REPLYING
WAITING: Final = Writing.WAITING
RESPONDING: Final = Writing.RESPONDING
FLUSHING: Final = Writing.FLUSHING
ANSWERED: Final = Writing.ANSWERED
ENDED: Final = Writing.ENDED
MAY: Final = Reuse.MAY
LAST: Final = Reuse.LAST
NEVER: Final = Reuse.NEVER

# fmt: off
READING: Final = table(Reading, {
    # in:            idle      head      expected body   ahead  replying
    Read.NOTHING:   (IDLE,     IDLE,     None,    None,  None,  None),
    Read.PART:      (HEAD,     HEAD,     None,    None,  None,  None),
    Read.REQUEST:   (AHEAD,    AHEAD,    None,    None,  None,  None),
    Read.UPLOAD:    (EXPECTED, EXPECTED, None,    None,  None,  None),
    # A request with a body is never sent twice.
    Read.ASKED:     (None,     None,     BODY,    None,  None,  None),
    Read.BODY:      (None,     None,     None,    AHEAD, None,  None),
    Read.REPLY:     (REPLYING, REPLYING, None,    None,  None,  None),
    # An answer that comes before the body has ended may be the connection's last.
    Read.ANSWER:    (None,     None,     IDLE,    IDLE,  IDLE,  IDLE),
})
WRITING: Final = table(Writing, {
    # in:              waiting     responding  flushing  answered  ended
    Write.BYTES:      (RESPONDING, RESPONDING, None,     None,     None),
    Write.LAST:       (None,       ANSWERED,   None,     None,     None),
    Write.UNSENT:     (None,       None,       None,     FLUSHING, None),
    Write.DELIVERED:  (None,       None,       ENDED,    ENDED,    None),
    Write.FAILED:     (ENDED,      ENDED,      ENDED,    None,     None),
    Write.SWITCHED:   (None,       ENDED,      None,     None,     None),
})
REUSE: Final = table(Reuse, {
    # in:         may    last   never
    Doubt.AGE:   (LAST,  LAST,  NEVER),
    Doubt.EOF:   (LAST,  LAST,  NEVER),
    Doubt.SHED:  (NEVER, NEVER, None),
})
# fmt: on

AFTER_NOTHING: Final = READING[Read.NOTHING]
AFTER_PART: Final = READING[Read.PART]
AFTER_REQUEST: Final = READING[Read.REQUEST]
AFTER_UPLOAD: Final = READING[Read.UPLOAD]
AFTER_ASKED: Final = READING[Read.ASKED]
AFTER_BODY: Final = READING[Read.BODY]
AFTER_REPLY: Final = READING[Read.REPLY]
AFTER_ANSWER: Final = READING[Read.ANSWER]
AFTER_BYTES: Final = WRITING[Write.BYTES]
AFTER_LAST: Final = WRITING[Write.LAST]
AFTER_UNSENT: Final = WRITING[Write.UNSENT]
AFTER_DELIVERY: Final = WRITING[Write.DELIVERED]
AFTER_FAILURE: Final = WRITING[Write.FAILED]
AFTER_SWITCH: Final = WRITING[Write.SWITCHED]
AFTER_AGE: Final = REUSE[Doubt.AGE]
AFTER_HALF_CLOSE: Final = REUSE[Doubt.EOF]
AFTER_SHED: Final = REUSE[Doubt.SHED]
