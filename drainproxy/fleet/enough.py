"""Which settings would have been enough for the drains that were seen, and what would they cost a pod?

Pure. The rules are propagation.py's, applied to what a report keeps of a drain: when the slices flipped, when
the last caller came, how long callers were silent at most. Where the report leaves a choice the worse one is
taken: a preset is called enough if it would have been so whatever came in between.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from drainproxy.fleet.observed import Observed
from drainproxy.lifecycle.budget import divide
from drainproxy.lifecycle.propagation import PRESETS, Rules, sparse
from drainproxy.lifecycle.settings import LifecycleSettings

SHARE = 0.999
MARGIN_STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Fit:
    """How one preset would have done. `enough`: the share of drains; seconds of propagation a pod."""

    preset: str
    enough: float
    mean_s: float
    most_s: float
    grace_s: float
    """What `terminationGracePeriodSeconds` has to be."""


@dataclass(frozen=True, slots=True)
class Advice:
    """For one workload."""

    drains: int
    cut_short: int
    """In so many, callers came to the end: how late they would have come nobody knows."""
    fits: tuple[Fit, ...]
    best: Fit | None
    """The cheapest that is enough; None where none is, or nobody can know."""
    margin_s: float | None
    """Behind the flip, enough for as many; None where no flip was seen."""
    drain_timeout_s: float
    """Enough for the requests that were seen."""
    unused_s: float | None
    """What no drain needed of its grace period."""


def leaves_after_s(rules: Rules, seen: Observed) -> tuple[float, float]:
    """Return when propagation would have ended at the earliest, and when if callers are as they were."""
    late_s = seen.last_late_s or 0.0
    thin = sparse(rules, seen.arrivals_per_s or 0.0)
    least_s = rules.min_s
    if seen.flipped_after_s is not None:
        least_s = seen.flipped_after_s + rules.margin_s
        if rules.hold_min:
            least_s = max(least_s, rules.min_s)
    if thin:
        least_s = max(least_s, rules.sparse_min_s)
    least_s = max(least_s, rules.quiet_s)
    steady = seen.longest_silence_s is not None and seen.longest_silence_s < rules.quiet_s
    heard_s = max(least_s, late_s + rules.quiet_s) if rules.quiet_s else least_s
    soonest_s = heard_s if steady else least_s
    return min(soonest_s, rules.max_s), min(heard_s, rules.max_s)


def is_enough(rules: Rules, seen: Observed) -> bool:
    """Tell whether everybody who came would have been served."""
    if seen.cut_short:
        # Nobody was left to hear how late they would have come.
        return False
    return seen.last_late_s is None or seen.last_late_s <= leaves_after_s(rules, seen)[0]


def advise(drains: Sequence[Observed], share: float = SHARE) -> Advice:
    """Weigh every preset over the drains of a workload, of which there is at least one."""
    longest_s = quantile([each.longest_request_s for each in drains], share) or 0.0
    fits = tuple(_fit(name, drains, longest_s) for name in PRESETS if name != "none")
    good = [fit for fit in fits if fit.enough >= share]
    late = [after for each in drains if (after := each.late_after_flip_s) is not None]
    margin_s = quantile(late, share)
    return Advice(
        drains=len(drains),
        cut_short=sum(each.cut_short for each in drains),
        fits=fits,
        best=min(good, key=lambda fit: (fit.mean_s, fit.most_s), default=None),
        margin_s=None if margin_s is None else math.ceil(margin_s / MARGIN_STEP_S) * MARGIN_STEP_S,
        drain_timeout_s=float(math.ceil(longest_s)),
        unused_s=min((each.unused_s for each in drains), default=None),
    )


def _fit(name: str, drains: Sequence[Observed], longest_s: float) -> Fit:
    rules, _ = PRESETS[name]
    stays = [leaves_after_s(rules, each)[1] for each in drains]
    budget = divide(LifecycleSettings(), rules.max_s, None)
    # The last caller may come as propagation ends, with the longest request there was.
    needed_s = max(budget.needed_s, max(stays) + longest_s + budget.app_stop_s + budget.reserve_s)
    return Fit(
        preset=name,
        enough=sum(is_enough(rules, each) for each in drains) / len(drains),
        mean_s=sum(stays) / len(stays),
        most_s=max(stays),
        grace_s=float(math.ceil(needed_s)),
    )


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the smallest value that at least `share` of the values do not exceed; None without any."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
