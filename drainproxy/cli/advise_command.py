"""`drainproxy advise`: which preset, margin, grace period and drain timeout would have been enough?

Reads drains that were recorded, in reports or by a Prometheus, and changes nothing. Called by main.py.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from drainproxy.errors import ConfigError
from drainproxy.fleet import reports
from drainproxy.fleet.enough import Advice, advise, quantile
from drainproxy.fleet.observed import Observed, by_workload, of_report
from drainproxy.fleet.prometheus import NoAnswer, Prometheus
from drainproxy.log import plain
from drainproxy.values import show_duration

EXIT_NONE = 1
EXIT_UNREACHABLE = 69
MAX_REPORTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: files of log lines or reports, or a Prometheus."""

    files: tuple[str, ...]
    url: str
    within: str
    matchers: str
    namespace: str
    token_file: str
    authority: str
    share: float
    as_json: bool


def run(wanted: Wanted) -> int:
    """Print advice for each workload; return 0 if every one has a preset that is enough."""
    if bool(wanted.files) is bool(wanted.url):
        raise ConfigError(["give either files with reports (- is standard input) or --prometheus URL"])
    try:
        drains = _recorded(wanted)
    except NoAnswer as failure:
        print(plain(f"drainproxy: {failure}"), file=sys.stderr)
        return EXIT_UNREACHABLE
    found = by_workload(drains)
    advice = {workload: advise(of, wanted.share) for workload, of in found.items()}
    if wanted.as_json:
        print(json.dumps({workload: asdict(each) for workload, each in advice.items()}, indent=2))
    else:
        for workload, of in found.items():
            print("\n".join(plain(line) for line in _said(workload, of, advice[workload], wanted.share)))
    return 0 if all(each.best is not None for each in advice.values()) else EXIT_NONE


def _recorded(wanted: Wanted) -> list[Observed]:
    """Return every drain that there is. Raises NoAnswer."""
    if wanted.url:
        token = _read(wanted.token_file).strip() if wanted.token_file else ""
        authority = Path(wanted.authority) if wanted.authority else None
        chosen = [f"namespace={json.dumps(wanted.namespace)}"] if wanted.namespace else []
        matchers = ",".join([*chosen, *filter(None, [wanted.matchers])])
        return Prometheus(wanted.url, token, authority, matchers).drains(wanted.within)
    drains = [seen for name in wanted.files for seen in _in_file(name, wanted.namespace)]
    if not drains:
        where = f" of namespace {wanted.namespace}" if wanted.namespace else ""
        raise NoAnswer(f"no report of a drain{where} in {', '.join(wanted.files)}")
    return drains


def _in_file(name: str, namespace: str) -> Iterator[Observed]:
    for line in _read(name).splitlines()[:MAX_REPORTS]:
        # A line of a log, or the report itself, as a termination message has it.
        report = reports.of_line(line) or reports.of_message(line)
        if report is not None and namespace and report.get("namespace") != namespace:
            continue
        if report is not None and (seen := of_report(report)) is not None:
            yield seen


def _read(name: str) -> str:
    try:
        return sys.stdin.read() if name == "-" else Path(name).read_text(errors="replace")
    except OSError as error:
        raise NoAnswer(f"{name}: {error.strerror}") from None


def _said(workload: str, drains: list[Observed], advice: Advice, share: float) -> Iterator[str]:
    yield f"{workload}: {advice.drains} drain{'s' if advice.drains > 1 else ''}"
    ends = Counter(each.ended for each in drains)
    yield "  propagation ended   " + ", ".join(f"{name} {count}" for name, count in ends.most_common())
    for title, values in (
        ("late after flip", [after for each in drains if (after := each.late_after_flip_s) is not None]),
        ("last caller after", [each.last_late_s for each in drains if each.last_late_s is not None]),
        ("longest request", [each.longest_request_s for each in drains]),
        ("unused grace", [each.unused_s for each in drains]),
    ):
        yield f"  {title:19} {_spread(values, share)}"
    yield f"  {'preset':14} {'enough for':>10} {'s a pod':>8} {'at most':>8} {'grace':>6}"
    for fit in advice.fits:
        mark = "  <- the cheapest that is enough" if fit == advice.best else ""
        row = f"{fit.enough:>10.1%} {fit.mean_s:>8.1f} {fit.most_s:>8.1f} {fit.grace_s:>6.0f}"
        yield f"  {fit.preset:14} {row}{mark}"
    yield from (f"  {line}" for line in _advice(advice, share))


def _spread(values: list[float], share: float) -> str:
    if not values:
        return "never seen"
    parts = [("p50", 0.5), ("p99", 0.99), (f"p{share * 100:g}", share), ("most", 1.0)]
    return ", ".join(f"{name} {quantile(values, q):.1f} s" for name, q in parts)


def _advice(advice: Advice, share: float) -> Iterator[str]:
    if advice.cut_short:
        yield (
            f"in {advice.cut_short} of them callers came until the pod left: how late they would have come"
            " was not recorded; raise propagation_max for a while, and ask again"
        )
    if advice.best is None:
        yield f"no preset is known to be enough for {share:.1%} of these drains"
    else:
        yield (
            f"set propagation to {advice.best.preset} and terminationGracePeriodSeconds to"
            f" {advice.best.grace_s:.0f}: enough for {advice.best.enough:.1%}, {advice.best.mean_s:.1f} s a"
            " pod"
        )
    if advice.margin_s is not None:
        yield (
            f"a propagation_margin of {show_duration(advice.margin_s)} would hold for {share:.1%} of the"
            " flips that were seen"
        )
    held = show_duration(advice.drain_timeout_s)
    yield f"a drain_timeout of {held} would hold for the requests that were seen"
    if advice.unused_s:
        yield f"{advice.unused_s:.1f} s of the grace period were used by no drain"
