"""What one of the project's own cases says beyond its class: checked on the bytes.

Pure.  Other proxies are judged by bytes too, but not by the case of letters, by status codes
or by what only drainproxy promises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conformance.cases import Expects
    from tests.conformance.lane import Seen


def check(expects: Expects, seen: Seen, *, exact: bool) -> list[str]:
    """Give what is not as expected; `exact` for drainproxy itself."""
    came = b"".join(held.raw + held.tunnel for held in seen.held)
    went = seen.received
    problems = _sight("the application", came, expects.app_sees, expects.app_never_sees, exact=exact)
    problems += _sight("the client", went, expects.client_sees, expects.client_never_sees, exact=exact)
    return problems + (_exactly(expects, seen, came) if exact else [])


def _sight(
    who: str, data: bytes, wanted: tuple[bytes, ...], unwanted: tuple[bytes, ...], *, exact: bool
) -> list[str]:
    def fold(text: bytes) -> bytes:
        return text if exact else text.lower()

    problems = [f"{who} does not see {text!r}" for text in wanted if fold(text) not in fold(data)]
    # What must not be seen must not be seen in any letters.
    return problems + [f"{who} sees {text!r}" for text in unwanted if text.lower() in data.lower()]


def _exactly(expects: Expects, seen: Seen, came: bytes) -> list[str]:
    problems = []
    statuses = tuple(reply.status for reply in seen.answers.replies)
    if expects.statuses and statuses != expects.statuses:
        problems.append(f"statuses {statuses}, not {expects.statuses}")
    if expects.closes is not None and seen.by_itself != expects.closes:
        problems.append(f"the proxy {'does not close' if expects.closes else 'closes'} the connection")
    if expects.forwarded is not None and came != expects.forwarded:
        problems.append(f"forwarded {came!r}, not {expects.forwarded!r}")
    return problems
