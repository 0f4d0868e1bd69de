"""Fills the marked blocks of docs/*.md from the code they describe; `--check` only compares.

The prose around a block is written in the page. What a block says of a setting, phase, metric or error is
the string beside it in the code, so that code and manual cannot disagree.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

# The checkout above, not an installed copy.
import drawing
import drawing_pod

from drainproxy import errors, metrics, routefile, settings
from drainproxy.injector import annotations
from drainproxy.lifecycle import budget
from drainproxy.lifecycle.machine import POLICY, TRANSITIONS, Event, IfRoutable, Phase
from drainproxy.lifecycle.propagation import PRESETS, Reason
from drainproxy.lifecycle.settings import LifecycleSettings
from drainproxy.proxy.limits.routes import PROFILES, Timeouts
from drainproxy.values import show_duration

if TYPE_CHECKING:
    from collections.abc import Callable

CHART = HERE.parent / "helm" / "drainproxy"

BLOCK = re.compile(r"(<!-- generated: ([a-z ]+) -->\n).*?(<!-- end -->\n)", re.DOTALL)

EVENTS = {
    Event.UPSTREAM_UP: "the application accepts connections",
    Event.UPSTREAM_DOWN: "the application has refused connections for 10 s; callers were turned away before",
    Event.TERMINATE: "SIGTERM, `drainproxy drain`, or the pod's preStop hook",
    Event.RESUME: "`drainproxy undrain`, of a drain by hand only",
    Event.FORGOTTEN: "the cluster has stopped choosing this pod, or is waited for no longer:"
    " see [why](#why-propagation-ended)",
    Event.IDLE: "nothing is in flight, and no request has come for `settle`",
    Event.DEADLINE: "the drain's deadline has come, or nobody can be served any more: what is left is cut",
}

REASONS = {
    Reason.SLICES_QUIET: "the slices have flipped, `margin` has passed, and callers are quiet",
    Reason.QUIET: "callers are quiet, without the cluster's word or, for twice as long, against it",
    Reason.MAX: "`propagation_max` has passed: callers still came, or the cluster still said ready",
    Reason.ALONE: "no other endpoint has become ready, and the time that is left is needed for leaving;"
    " or no successor can start before this pod is gone",
    Reason.DEADLINE: "the drain's deadline has come: a hook had waited for long before the drain began",
    Reason.UPSTREAM_GONE: "the application is gone: there is nobody left to serve",
    Reason.INTERRUPTED: "a person insists: the second SIGINT",
}

POLICY_TITLES = {
    "readyz": "`/readyz`",
    "new_request": "a new request is",
    "reuse": "a connection is",
    "streams": "WebSockets, EventSources",
}


def main() -> int:
    """Fill the pages, or tell which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    check = parser.parse_args().check
    stale = {
        path: text for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text
    }
    for path, text in stale.items():
        if not check:
            path.write_text(text, "utf-8")
        print(f"{path.name}: {'out of date; run docs/generate.py' if check else 'filled'}")
    return 1 if check and stale else 0


def pages() -> dict[Path, str]:
    """Return each page with blocks, and what it should hold."""
    texts = {path: path.read_text("utf-8") for path in [*sorted(HERE.glob("*.md")), CHART / "README.md"]}
    filled = {path: BLOCK.sub(_fill, text) for path, text in texts.items() if BLOCK.search(text)}
    return {**filled, HERE / "capture.svg": drawing.tree(), HERE / "pod.svg": drawing_pod.pod()}


def _fill(block: re.Match[str]) -> str:
    return f"{block[1]}\n{BLOCKS[block[2]]()}\n{block[3]}"


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


# configuration.md


def _settings(room: str) -> str:
    said = settings.documentation()
    return "\n".join(_setting(each, said[each.name]) for each in settings.table() if each.room == room)


def _setting(setting: settings.Setting, text: str) -> str:
    default = setting.show(setting.default)
    more = ("; a list" if setting.many else "") + (", or `off`" if setting.may_be_off else "")
    lines = [f"### {setting.name}\n", f"`{setting.env}`, `{setting.flag}`: {setting.kind.allowed}{more}."]
    if "Default:" not in text:
        lines.append(f"Default: `{default}`." if default else "No default.")
    sentences = re.sub(r"(?<=[\w)`]\.) (?=\S)", "\n", text)
    return "\n".join([*lines, "", sentences, ""])


def _injection() -> str:
    rows = settings.rows("injection", annotations.Options)
    said = settings.documentation(annotations.Options)
    return "\n".join(_annotation(each, said[each.name]) for each in rows)


def _annotation(option: settings.Setting, text: str) -> str:
    name, default = option.flag.removeprefix("--"), option.show(option.default)
    lines = [f"### {name}\n", f"`{annotations.PREFIX}{name}`: {option.kind.allowed}."]
    if default:
        lines.append(f"Default: `{default}`.")
    return "\n".join([*lines, "", re.sub(r"(?<=[\w)]\.) (?=\S)", "\n", text), ""])


def _presets() -> str:
    def row(name: str) -> list[str]:
        rules, purpose = PRESETS[name]
        quiet = show_duration(rules.quiet_s) if rules.quiet_s else "off"
        own = [show_duration(rules.min_s), show_duration(rules.margin_s), quiet, show_duration(rules.max_s)]
        return [f"`{name}`", *own, purpose, show_duration(sum(_shares(name)))]

    return _table(
        ["preset", "min", "margin", "quiet", "max", "for", "grace"], [row(name) for name in PRESETS]
    )


def _routes() -> str:
    said = settings.documentation(routefile.Chosen, Timeouts)
    rows = [[f"`{name}`", word.kind.allowed, said[name]] for name, word in routefile.WORDS.items()]
    return _table(["word", "written", "what it says"], rows)


def _profiles() -> str:
    """A column for each timeout that any of them sets."""
    default = Timeouts()
    names = [
        each.name
        for each in fields(Timeouts)
        if any(getattr(profile, each.name) != getattr(default, each.name) for profile in PROFILES.values())
    ]

    def row(name: str) -> list[str]:
        return [
            f"`{name}`",
            *(routefile.WORDS[each].kind.show(getattr(PROFILES[name], each)) for each in names),
        ]

    return _table(["profile", *names], [row(name) for name in PROFILES])


def _shares(preset: str) -> list[float]:
    usual = LifecycleSettings()
    leave = usual.leave_spread + budget.LEAVE_MARGIN_S
    return [PRESETS[preset][0].max_s, leave, usual.app_stop, usual.reserve]


def _sum() -> str:
    shares = _shares("cluster")
    terms = " + ".join(f"{share:g}" for share in shares)
    return f"With the preset `cluster` and the defaults: {terms} = {sum(shares):g} s.\n"


# lifecycle.md


def _events() -> str:
    return _table(["event", "means"], [[f"`{event}`", EVENTS[event]] for event in Event])


def _reasons() -> str:
    return _table(["reason", "means"], [[f"`{reason}`", REASONS[reason]] for reason in Reason])


def _transitions() -> str:
    def cell(phase: Phase, event: Event) -> str:
        to = TRANSITIONS[phase][event]
        if isinstance(to, IfRoutable):
            return f"{to.otherwise}; {to.then} if the cluster already sends callers here"
        return "·" if to is phase else str(to)

    rows = [[f"**{phase}**", *(cell(phase, event) for event in Event)] for phase in Phase]
    return _table(["in", *(f"`{event}`" for event in Event)], rows)


def _policy() -> str:
    rows = [
        [title, *(getattr(POLICY[phase], column) for phase in Phase)]
        for column, title in POLICY_TITLES.items()
    ]
    return _table(["", *Phase], rows)


# metrics.md


def _metrics() -> str:
    rows = [
        [f"`{metrics.PREFIX}{each.name}`", each.kind, _labels(each), each.help]
        for each in metrics.Metrics().families()
    ]
    return _table(["name", "type", "labels", "help"], rows)


def _labels(family: metrics.Family | metrics.Histogram) -> str:
    if isinstance(family, metrics.Histogram):
        return ""
    closed = family.closed.items()
    return "; ".join(f"`{label}`: {', '.join(words)}" if words else f"`{label}`" for label, words in closed)


def _webhook_metrics() -> str:
    shared = {each.name for each in metrics.Table().families()}
    rows = [
        [f"`{metrics.PREFIX}{each.name}`", each.kind, _labels(each), each.help]
        for each in metrics.WebhookMetrics().families()
        if each.name not in shared
    ]
    return _table(["name", "type", "labels", "help"], rows)


def _buckets() -> str:
    return "".join(
        f"- `{metrics.PREFIX}{each.name}`: {', '.join(f'{bound:g}' for bound in each.bounds)}\n"
        for each in metrics.Metrics().families()
        if isinstance(each, metrics.Histogram)
    )


# errors.md


def _errors(blame: type[errors.RequestError]) -> str:
    rows = [
        [
            f"`{leaf.reason}`",
            str(leaf.status),
            f"`{leaf.proxy_status}`",
            "" if leaf.retry_after_s is None else f"{leaf.retry_after_s} s",
            " ".join((leaf.__doc__ or "").split()),
        ]
        for leaf in errors.leaves(blame)
    ]
    return _table(["reason", "status", "Proxy-Status", "Retry-After", "meaning"], rows)


# helm/drainproxy/README.md


def _values() -> str:
    """Each leaf of values.yaml: a comment that begins with `-- ` says what the line below it is."""
    rows: list[list[str]] = []
    path: list[str] = []
    said = ""
    for line in (CHART / "values.yaml").read_text("utf-8").splitlines():
        comment = re.fullmatch(r" *# -- (.*)", line)
        setting = re.fullmatch(r"( *)([\w-]+): ?(.*)", line)
        if comment:
            said = comment[1]
        elif setting:
            path = [*path[: len(setting[1]) // 2], setting[2]]
            if said:
                rows.append([f"`{'.'.join(path)}`", f"`{setting[3]}`" if setting[3] else "", said])
            said = ""
    return _table(["value", "default", "what it is"], rows)


BLOCKS: dict[str, Callable[[], str]] = {
    "proxy": lambda: _settings("proxy"),
    "edge": lambda: _settings("edge"),
    "lifecycle": lambda: _settings("lifecycle"),
    "admin": lambda: _settings("admin"),
    "kube": lambda: _settings("kube"),
    "process": lambda: _settings("process"),
    "presets": _presets,
    "routes": _routes,
    "profiles": _profiles,
    "sum": _sum,
    "events": _events,
    "reasons": _reasons,
    "transitions": _transitions,
    "policy": _policy,
    "metrics": _metrics,
    "webhook metrics": _webhook_metrics,
    "injection": _injection,
    "buckets": _buckets,
    "client errors": lambda: _errors(errors.ClientError),
    "upstream errors": lambda: _errors(errors.UpstreamError),
    "refusal errors": lambda: _errors(errors.Refusal),
    "values": _values,
    "internal errors": lambda: _errors(errors.InternalError),
}


if __name__ == "__main__":
    sys.exit(main())
