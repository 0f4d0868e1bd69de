"""What a rollout has lost, and what to change: one verdict, and one sentence for each kind of trouble.

Pure. Over the records of departures.py. Nothing lost is only said of pods of which it is known.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from drainproxy import podspec
from drainproxy.config import Config
from drainproxy.fleet import reports
from drainproxy.fleet.departures import Departure, Departures, Thing
from drainproxy.fleet.reports import Report
from drainproxy.kube.lint import hook_problems
from drainproxy.kube.owners import label
from drainproxy.lifecycle.propagation import Reason
from drainproxy.values import show_duration

Settings = Callable[[Thing], Config]

LOST, UNKNOWN = 1, 2
MAX_NAMED = 10
_TOO_SOON = {
    Reason.MAX: "callers still came when it left",
    Reason.ALONE: "no other pod was ready when it left",
    Reason.DEADLINE: "its deadline came before the cluster had forgotten it",
    Reason.UPSTREAM_GONE: "its application was gone before the cluster had forgotten it",
    Reason.INTERRUPTED: "somebody ended it before the cluster had forgotten it",
}
"""Ends of propagation after which callers may still have been sent to it."""


@dataclass(frozen=True, slots=True)
class Advice:
    """`kind` is one of a closed set; `pods` are those that have it."""

    kind: str
    sentence: str
    pods: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`unknown`: pod -> why nothing can be said of it."""

    left: int
    lost: dict[str, int]
    unknown: dict[str, str]
    advice: tuple[Advice, ...]

    @property
    def exit_code(self) -> int:
        """0: nothing was lost. What is known to be lost says more than what is not known."""
        return LOST if self.lost else UNKNOWN if self.unknown else 0

    def sentence(self, what: str) -> str:
        """Say it of a workload."""
        if not self.left:
            return f"no pod of {what} is known to have left"
        pods = f"{self.left} pod{'s' if self.left > 1 else ''} of {what} left"
        total = sum(self.lost.values())
        some = f"{total} {'was' if total == 1 else 'were'} lost by {len(self.lost)} of them"
        said = [f"{pods}: {some}"] if self.lost else []
        if self.unknown:
            said.append(f"{'' if said else f'{pods}: '}not known for {named(self.unknown)}")
        return "; ".join(said) or f"{pods}: nothing was lost"


def named(pods: Iterable[str]) -> str:
    """Return names, the first few of many."""
    names = list(pods)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def judge(found: Departures, missing: dict[str, str], settings: Settings) -> Verdict:
    """Weigh everything that is known of those who have left, or are still leaving.

    `settings`: what a container's environment and flags mean.
    """
    everybody = list(found)
    lost = {each.pod: count for each in everybody if (count := _lost(each))}
    whys = {each.pod: _unknown(each, found, missing) for each in everybody if each.pod not in lost}
    unknown = {pod: why for pod, why in whys.items() if why}
    kinds: dict[str, tuple[str, list[str]]] = {}
    for each in everybody:
        for kind, sentence in _troubles(each, found, settings):
            # The first pod's numbers stand for all: one sentence a kind.
            kinds.setdefault(kind, (sentence, []))[1].append(each.pod)
    advice = tuple(Advice(kind, sentence, tuple(pods)) for kind, (sentence, pods) in kinds.items())
    return Verdict(len(everybody), lost, unknown, advice)


def _lost(each: Departure) -> int:
    if each.report is not None:
        return reports.lost(each.report)
    # The Event says that something was, and its sentence is no number to add up.
    return 1 if each.incomplete else 0


def _unknown(each: Departure, found: Departures, missing: dict[str, str]) -> str:
    """Say why it is not known what a pod has lost; empty where it is known."""
    if each.report is not None:
        why = _TOO_SOON.get(each.report["propagation_ended"], "")
        if each.report["propagation_ended"] == Reason.MAX and not _came_to_the_end(each.report):
            return ""
        return why and f"{why}, and who came later it could not count"
    if not each.gone:
        return "it is still leaving"
    if _bare(each, found):
        return "nothing in it counts what is lost"
    return _unheard(each, missing)


def _unheard(each: Departure, missing: dict[str, str]) -> str:
    """Say why the report of a pod with drainproxy in it is not known."""
    ours = "" if each.sidecar is None else str(each.sidecar["name"])
    if ours in each.killed:
        return f"drainproxy was ended before it could report: {each.killed[ours]}"
    denied = [what for what in ("pods", "events", "logs") if what in missing]
    if denied:
        return f"its report was not seen, and {' and '.join(denied)} could not be read"
    return "it was gone before anybody looked, and no Event has its report"


def _bare(each: Departure, found: Departures) -> bool:
    """Tell whether no drainproxy was in a pod, as far as anybody can still say."""
    if each.spec is not None:
        return each.sidecar is None
    template = found.template(each)
    if template is None or podspec.sidecar(template.get("spec") or {"containers": []})[0] is not None:
        return False
    asks = label(template, "drainproxy.io/inject")
    now = found.any_pod
    return asks != "true" and (now is None or podspec.sidecar(now)[0] is None)


def _came_to_the_end(report: Report) -> bool:
    """Tell whether callers came until the pod left: less than a second before, or than they ever paused."""
    late_s = report.get("last_late_s")
    if late_s is None:
        return False
    silent_s = reports.seconds(report) - float(late_s)
    return silent_s <= max(1.0, float(report.get("longest_silence_s") or 0.0))


# Troubles.


def _troubles(each: Departure, found: Departures, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield each kind of trouble that a pod had, with what to change."""
    if _bare(each, found):
        yield from _without(each, found)
        return
    spec = _spec(each, found)
    config = settings(podspec.sidecar(spec or found.any_pod or {"containers": []})[0] or {})
    yield from _wired(each, spec, config)
    if each.report is None:
        if each.gone:
            yield from _silent(each)
        return
    for trouble in _OF_REPORTS:
        yield from trouble(each.report, config)


def _without(each: Departure, found: Departures) -> Iterator[tuple[str, str]]:
    spec = each.spec or (found.template(each) or {}).get("spec") or {"containers": []}
    hooks = [podspec.pre_stop(container) for container in spec.get("containers") or ()]
    if any(podspec.sleeps(hook) for hook in hooks):
        how = "its preStop hook only sleeps: a guess, too short where the cluster takes longer"
    elif any(hooks):
        how = "its preStop hook knows nothing of callers"
    else:
        how = "it is told to end while callers are still sent to it"
    yield (
        "no-sidecar",
        f'no drainproxy runs in it, and {how}; label the pod template drainproxy.io/inject: "true"',
    )


def _spec(each: Departure, found: Departures) -> Thing | None:
    """Return a pod's spec: its own, or of its template where no webhook has had its say about that."""
    if each.spec is not None:
        return each.spec
    spec = (found.template(each) or {}).get("spec")
    return spec if spec is not None and podspec.sidecar(spec)[0] is not None else None


def _wired(each: Departure, spec: Thing | None, config: Config) -> Iterator[tuple[str, str]]:
    problems = [] if spec is None else list(hook_problems(spec, config.admin.admin))
    if problems:
        yield "hook", problems[0]
    elif each.hooks:
        yield (
            "hook",
            (
                f"a preStop hook failed, so its container was stopped in mid drain ({each.hooks[0]}); let"
                f" it ask for {podspec.WAIT_PATH} on port {config.admin.admin.port}"
            ),
        )
    for container, why in each.killed.items():
        if why.startswith("SIGKILL"):
            yield (
                "killed",
                (
                    f"container {container} was killed at the end of the grace period: it takes longer to"
                    f" stop than app_stop {show_duration(config.lifecycle.app_stop)}; raise app_stop, and"
                    " terminationGracePeriodSeconds by as much"
                ),
            )
        else:
            yield "memory", f"container {container} was killed, {why}; raise its memory limit"


def _silent(each: Departure) -> Iterator[tuple[str, str]]:
    ours = "" if each.sidecar is None else str(each.sidecar["name"])
    if ours not in each.killed and not each.incomplete:
        yield (
            "no-report",
            (
                "its report was seen by nobody: run this with --watch from before the rollout, or let"
                " reports outlive their pods in Events (rbac: slices+pod+events, events: all)"
            ),
        )
    if each.incomplete:
        yield "incomplete", f"its Event says: {each.incomplete}"


def _capped(report: Report, config: Config) -> Iterator[tuple[str, str]]:
    if report["propagation_ended"] != Reason.MAX:
        return
    preset, max_s = config.lifecycle.propagation, config.rules.max_s
    needed = config.budget().needed_s
    flipped, late_s = report.get("flipped_after_s"), report.get("last_late_s")
    raised = (
        f"raise propagation_max above {show_duration(max_s)}, or choose the preset of whoever sends them (now"
        f" {preset}), and give terminationGracePeriodSeconds what is added (at least {needed:g} now)"
    )
    if late_s is not None and _came_to_the_end(report):
        yield (
            "capped",
            f"callers still came {float(late_s):.1f} s into the drain, when it was cut short; {raised}",
        )
    elif flipped is None:
        yield (
            "capped",
            (
                "the EndpointSlices still said ready when propagation_max was over; look at the endpoints"
                f" controller and at publishNotReadyAddresses, or {raised}"
            ),
        )


def _alone(report: Report, _config: Config) -> Iterator[tuple[str, str]]:
    if report["propagation_ended"] == Reason.ALONE:
        yield (
            "alone",
            (
                "no other pod was ready in time to take over; start the successor first (maxUnavailable:"
                " 0), run more than one replica, or raise terminationGracePeriodSeconds to the time that"
                " one takes to become ready"
            ),
        )


def _at_the_deadline(report: Report, config: Config) -> Iterator[tuple[str, str]]:
    said = reports.counts(report)
    if not said["cut"] and not said["timed_out"] and report["propagation_ended"] != Reason.DEADLINE:
        return
    longest_s = float(report.get("longest_request_s") or 0.0)
    budget = config.budget()
    wanted = config.rules.max_s + longest_s + budget.app_stop_s + budget.reserve_s
    if limit := config.lifecycle.drain_timeout:
        yield (
            "deadline",
            (
                f"work was ended after {longest_s:.1f} s, with drain_timeout {show_duration(limit)}; raise"
                " it, or give the path a route of its own with drain"
            ),
        )
    else:
        yield (
            "deadline",
            (
                f"work that had taken {longest_s:.1f} s was ended by the drain's deadline; raise"
                f" terminationGracePeriodSeconds and grace_period to {wanted:.0f} or more, or let long work"
                " end sooner by a route's drain"
            ),
        )


def _refused(report: Report, config: Config) -> Iterator[tuple[str, str]]:
    if reports.counts(report)["refused"]:
        yield (
            "refused",
            (
                "requests were refused: they came in the last"
                f" {show_duration(config.lifecycle.refuse_window)} before the deadline, or found a limit;"
                " raise terminationGracePeriodSeconds, and look at drainproxy_refused_total for which limit"
            ),
        )


def _application(report: Report, _config: Config) -> Iterator[tuple[str, str]]:
    if report["propagation_ended"] == Reason.UPSTREAM_GONE:
        yield (
            "application",
            (
                "the application was gone before the drain was over; let its container's preStop hook ask for"
                f" {podspec.WAIT_PATH}, and look at why it ended"
            ),
        )
    elif reports.counts(report)["lost"]:
        yield (
            "application",
            (
                "the application went away with requests or was later than their routes allow; look at its"
                " log, and at response_head_timeout and total_timeout"
            ),
        )


def _told_to_leave(report: Report, _config: Config) -> Iterator[tuple[str, str]]:
    if count := reports.counts(report)["told_to_leave"]:
        yield (
            "told-to-leave",
            (
                f"WebSockets and event streams were asked to come back elsewhere ({count}), and nothing of"
                " theirs is lost if they do; where their clients cannot, set websockets or streams to"
                " finish, and terminationGracePeriodSeconds to as long as they last"
            ),
        )


_OF_REPORTS: tuple[Callable[[Report, Config], Iterator[tuple[str, str]]], ...] = (
    _application,
    _capped,
    _alone,
    _at_the_deadline,
    _refused,
    _told_to_leave,
)
