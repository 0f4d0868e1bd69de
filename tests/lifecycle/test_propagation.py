"""When the cluster has forgotten a pod: presets, evidence, silence and the cap."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainproxy.lifecycle.propagation import (
    PRESETS,
    UNKNOWN,
    Evidence,
    Facts,
    Reason,
    Routability,
    Rules,
    judge,
    silence_s,
    sparse,
)
from drainproxy.metrics import Metrics

T0 = 100.0
"""Loop time at which the drains of this file began."""

BUSY = 10.0
"""Arrivals a second: enough for any silence to be heard."""

NUMBERS = """
              min  margin  quiet  max  hold_min  balancer
none          0    0       0      0    no        no
cluster       5    2       2      15   no        no
mesh          5    10      0      25   no        no
alb           35   10      10     90   yes       yes
gce-neg       30   15      10     75   yes       yes
agic          60   15      15     120  yes       yes
headless-dns  35   5       5      60   yes       no
multicluster  15   10      5      60   no        no
"""


def preset(
    name: str, minimum: str, margin: str, quiet: str, maximum: str, hold_min: str, balancer: str
) -> tuple[str, Rules]:
    """Read a row of the manual."""
    return name, Rules(
        float(minimum),
        float(margin),
        float(quiet),
        float(maximum),
        hold_min=hold_min == "yes",
        balancer=balancer == "yes",
        sparse_min_s=8.0,
    )


MANUAL = [preset(*line.split()) for line in NUMBERS.strip().splitlines()[1:]]


@pytest.mark.parametrize(("name", "rules"), MANUAL)
def test_each_preset_has_the_numbers_of_the_manual(name, rules):
    """Operators size their grace periods by these."""
    assert PRESETS[name][0] == rules


def test_no_preset_is_missing_and_each_says_what_it_is_for():
    """The manual's table is made from these words."""
    assert list(PRESETS) == [name for name, _ in MANUAL]
    assert all(purpose for _, purpose in PRESETS.values())


def test_every_reason_has_its_series():
    """A reason without its series would be counted under a name nobody looks at."""
    assert {(reason,) for reason in Reason} == set(Metrics().propagation_end.values)


def gone(after: float, *, sole: bool = False) -> Evidence:
    """The slices flipped `after` seconds into the drain; `sole`: and nobody else is ready."""
    return Evidence(Routability.GONE, T0 + after, terminating=True, alone=sole, sole=sole)


def routable(after: float = 0.0, *, sole: bool = False) -> Evidence:
    """The slices still name this pod."""
    return Evidence(Routability.ROUTABLE, T0 + after, alone=sole, sole=sole)


STUCK = Evidence(Routability.UNKNOWN, T0, terminating=True, alone=True, sole=True, stuck=True)
"""publishNotReadyAddresses: the only row is ready and terminating."""


CLUSTER = PRESETS["cluster"][0]
MESH = PRESETS["mesh"][0]
ALB = PRESETS["alb"][0]
DNS = PRESETS["headless-dns"][0]
MULTICLUSTER = PRESETS["multicluster"][0]
NONE = PRESETS["none"][0]

# What is known -> when it is over and why. `late` is the last late arrival, in seconds of the drain.
ENDS = {
    "none is over as it begins": (NONE, UNKNOWN, None, 0.0, 0, "quiet"),
    "none asks neither slices nor silence": (NONE, routable(), 0.0, BUSY, 0, "quiet"),
    "none holds nobody, alone or not": (NONE, gone(0, sole=True), None, BUSY, 0, "slices_quiet"),
    "without the cluster's word: min": (CLUSTER, UNKNOWN, None, BUSY, 5, "quiet"),
    "still ready and busy: min, if callers never came": (CLUSTER, routable(), None, BUSY, 5, "quiet"),
    "still ready and busy: quiet counts half": (CLUSTER, routable(), 4.9, BUSY, 8.9, "quiet"),
    "still ready and busy: to the cap if need be": (CLUSTER, routable(), 11.5, BUSY, 15, "max"),
    "still ready and sparse: silence says nothing": (CLUSTER, routable(), None, 1.0, 15, "max"),
    "still ready and sparse: nor does a straggler": (CLUSTER, routable(), 3.0, 1.0, 15, "max"),
    "still ready beside a mesh: no silence to weigh": (MESH, routable(), 1.0, BUSY, 25, "max"),
    "still ready, and clients of DNS: min, then quiet": (DNS, routable(), 30.0, BUSY, 40, "quiet"),
    "still ready, and sparse clients of DNS": (DNS, routable(), 30.0, 0.1, 60, "max"),
    "still ready behind a balancer: its own rules": (ALB, routable(), None, 0.1, 35, "quiet"),
    "never flips: as unknown": (CLUSTER, STUCK, 6.0, BUSY, 8, "quiet"),
    "never flips, and sparse": (CLUSTER, STUCK, None, 1.0, 8, "quiet"),
    "never flips, and callers come for ever: the cap": (CLUSTER, STUCK, 14.0, BUSY, 15, "max"),
    "a late arrival within min changes nothing": (CLUSTER, UNKNOWN, 2.5, BUSY, 5, "quiet"),
    "a late arrival near min: quiet after it": (CLUSTER, UNKNOWN, 4.9, BUSY, 6.9, "quiet"),
    "a late arrival near the cap: the cap": (CLUSTER, UNKNOWN, 13.5, BUSY, 15, "max"),
    "quiet ends exactly at the cap: quiet": (CLUSTER, UNKNOWN, 13.0, BUSY, 15, "quiet"),
    "flipped at once: margin, not min": (CLUSTER, gone(0), None, BUSY, 2, "slices_quiet"),
    "flipped later: margin from the flip": (CLUSTER, gone(3), None, BUSY, 5, "slices_quiet"),
    "flipped before the drain: quiet is left": (CLUSTER, gone(-60), None, BUSY, 2, "slices_quiet"),
    "flipped, and a late arrival: quiet after it": (CLUSTER, gone(1), 2.5, BUSY, 4.5, "slices_quiet"),
    "flipped too late: the cap": (CLUSTER, gone(14), None, BUSY, 15, "max"),
    "sparse: sparse_min instead of silence": (CLUSTER, UNKNOWN, None, 1.0, 8, "quiet"),
    "sparse, with the slices' word": (CLUSTER, gone(0), None, 1.0, 8, "slices_quiet"),
    "sparse, and somebody came: quiet after it": (CLUSTER, UNKNOWN, 7.0, 1.0, 9, "quiet"),
    "mesh without the word: min, and no silence": (MESH, UNKNOWN, 4.9, BUSY, 5, "quiet"),
    "mesh with the word: margin, and no silence": (MESH, gone(1), 10.9, BUSY, 11, "slices_quiet"),
    "mesh is never sparse": (MESH, UNKNOWN, None, 0.0, 5, "quiet"),
    "a balancer holds min though slices flipped": (ALB, gone(0), None, BUSY, 35, "slices_quiet"),
    "a balancer waits for margin beyond min": (ALB, gone(30), None, BUSY, 40, "slices_quiet"),
    "a balancer without the word: min": (ALB, UNKNOWN, None, BUSY, 35, "quiet"),
    "a DNS cache holds min though slices flipped": (DNS, gone(0), None, BUSY, 35, "slices_quiet"),
    "rows of another cluster: margin, not min": (MULTICLUSTER, gone(0), None, BUSY, 10, "slices_quiet"),
}


@pytest.mark.parametrize(
    ("rules", "evidence", "late", "arrivals", "ends", "why"), ENDS.values(), ids=ENDS.keys()
)
def test_propagation_ends_when_and_why(rules, evidence, late, arrivals, ends, why):
    """Asked at each of its own `check_at`, it ends when the table says, for the reason of the table."""
    facts = Facts(T0, evidence, None if late is None else T0 + late, arrivals)
    now = T0
    while (verdict := judge(rules, facts, now)).over is None:
        assert now < verdict.check_at
        assert judge(rules, facts, (now + verdict.check_at) / 2).over is None
        now = verdict.check_at
    assert now == pytest.approx(T0 + ends)
    assert verdict.over == why
    assert verdict.waiting_for == "nothing"


# Alone: rules, the cluster's word, arrivals, latest, since when another is ready -> when it is over, and why.
NEVER = -math.inf
"""What `latest` says where nothing holds a lone pod."""
ALONE = {
    "alone: to the deadline less what leaving needs": (
        CLUSTER,
        gone(0, sole=True),
        BUSY,
        50,
        None,
        50,
        "alone",
    ),
    "alone and sparse: the same": (CLUSTER, gone(0, sole=True), 0.3, 50, None, 50, "alone"),
    "alone with little grace: to max at least": (CLUSTER, gone(0, sole=True), BUSY, 9, None, 15, "alone"),
    "alone while the cluster still says ready": (CLUSTER, routable(0, sole=True), 0.3, 50, None, 50, "alone"),
    "alone and nothing holds it": (CLUSTER, gone(0, sole=True), BUSY, NEVER, None, 2, "slices_quiet"),
    "alone beside a mesh": (MESH, gone(0, sole=True), BUSY, 50, None, 50, "alone"),
    "alone behind a balancer: its own rules": (ALB, gone(0, sole=True), BUSY, 97, None, 35, "slices_quiet"),
    "alone, but its row says nothing": (CLUSTER, STUCK, BUSY, 50, None, 5, "quiet"),
    "not alone: never held": (CLUSTER, gone(0), BUSY, 50, None, 2, "slices_quiet"),
    "another is ready: margin and quiet from then": (CLUSTER, gone(0), BUSY, 50, 9, 11, "slices_quiet"),
    "another is ready, sparse: sparse_min from then": (CLUSTER, gone(0), 0.3, 50, 9, 17, "slices_quiet"),
    "another is ready, late: max is counted anew": (CLUSTER, gone(0), 0.3, 50, 14.5, 22.5, "slices_quiet"),
    "another is ready, very late: latest is the cap": (CLUSTER, gone(0), 0.3, 50, 45, 50, "max"),
    "another is ready beside a mesh: margin from then": (MESH, gone(0), BUSY, 50, 20, 30, "slices_quiet"),
    "another is ready, and the row flips after that": (CLUSTER, gone(12), BUSY, 50, 9, 14, "slices_quiet"),
    "another is ready, and nothing holds it now": (CLUSTER, gone(0), BUSY, NEVER, 14.5, 15, "max"),
}


@pytest.mark.parametrize(
    ("rules", "word", "arrivals", "latest", "followed", "ends", "why"), ALONE.values(), ids=ALONE.keys()
)
def test_a_pod_that_alone_serves_stays_until_another_does(rules, word, arrivals, latest, followed, ends, why):
    """kube-proxy falls back to it (KEP-1669); from the moment another is ready everything counts anew."""
    facts = Facts(T0, word, None, arrivals, T0 + latest, None if followed is None else T0 + followed)
    now = T0 if followed is None else T0 + followed
    while (verdict := judge(rules, facts, now)).over is None:
        assert now < verdict.check_at
        now = verdict.check_at
    assert now == pytest.approx(T0 + ends)
    assert verdict.over == why


@pytest.mark.parametrize(
    ("word", "arrivals", "expected"),
    [
        (UNKNOWN, BUSY, 2.0),
        (UNKNOWN, 0.3, 2.0),
        (gone(0), 0.3, 2.0),
        (routable(), BUSY, 4.0),
        (routable(), 0.3, 8.0),
    ],
)
def test_after_max_silence_weighs_as_much_as_before(word, arrivals, expected):
    """Against the word "still ready" it has to last longer, and where traffic is thin for `sparse_min`."""
    assert silence_s(CLUSTER, word, arrivals) == expected


# What is known after one second -> what it waits for.
WAITS = {
    "without the word": (CLUSTER, UNKNOWN, None, BUSY, "min, without the cluster's word"),
    "with the word": (CLUSTER, gone(1), None, BUSY, "margin after the slices flipped"),
    "for silence": (CLUSTER, gone(-9), 1.0, BUSY, "quiet after the last late arrival"),
    "for want of sound": (CLUSTER, gone(0), None, 0.5, "sparse_min, for want of traffic"),
    "for a balancer": (ALB, gone(0), None, BUSY, "min, for the balancer or DNS"),
    "against the word, sparse": (CLUSTER, routable(), None, 0.5, "max: the cluster still says ready"),
    "against the word, busy": (CLUSTER, routable(), 1.5, BUSY, "twice quiet: the cluster still says ready"),
}


@pytest.mark.parametrize(("rules", "evidence", "late", "arrivals", "words"), WAITS.values(), ids=WAITS.keys())
def test_it_says_what_it_waits_for(rules, evidence, late, arrivals, words):
    """Of several waits the one that ends last is named: it is the one an operator can do something about."""
    verdict = judge(rules, Facts(T0, evidence, None if late is None else T0 + late, arrivals), T0 + 1)
    assert verdict.over is None
    assert verdict.waiting_for == words


@pytest.mark.parametrize(
    ("quiet", "arrivals", "expected"),
    [(2, 2.4, True), (2, 2.5, False), (2, 0.0, True), (10, 0.49, True), (10, 0.5, False), (0, 0.0, False)],
)
def test_silence_is_evidence_from_five_expected_arrivals_on(quiet, arrivals, expected):
    """Below five arrivals expected within `quiet` silence is chance; without `quiet` it is not asked."""
    assert sparse(replace(CLUSTER, quiet_s=quiet), arrivals) is expected


# Properties: whatever the numbers are.

seconds = st.floats(0, 300, allow_subnormal=False)
rules_of_any_kind = st.builds(
    Rules, seconds, seconds, st.just(0.0) | seconds, seconds, st.booleans(), st.booleans(), seconds
)
moments = st.floats(-300, 600).map(lambda second: T0 + second)
words = st.builds(
    Evidence,
    st.sampled_from(Routability),
    moments,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
rates = st.sampled_from([0.0, 0.2, 3.0, 500.0])


@given(rules_of_any_kind, words, st.none() | st.floats(0, 600).map(lambda late: T0 + late), rates)
def test_jumping_to_check_at_ends_by_the_cap(rules, evidence, last_late, arrivals):
    """Each check lies in the future, a few of them suffice, and none lies beyond the cap."""
    facts = Facts(T0, evidence, last_late, arrivals)
    now, asked = T0, 0
    while (verdict := judge(rules, facts, now)).over is None:
        assert now < verdict.check_at <= T0 + rules.max_s
        now, asked = verdict.check_at, asked + 1
        assert asked <= 2
    assert now <= T0 + rules.max_s


@given(rules_of_any_kind, st.lists(st.tuples(words, st.booleans()), max_size=20), rates)
def test_whatever_happens_meanwhile_the_cap_holds(rules, news, arrivals):
    """New words and late arrivals at every check may only move the end about under the cap."""
    facts, now = Facts(T0, UNKNOWN, None, arrivals), T0
    for word, arrival in news:
        verdict = judge(rules, facts, now)
        if verdict.over is not None:
            break
        assert now < verdict.check_at <= T0 + rules.max_s
        now = verdict.check_at
        facts = replace(facts, evidence=word, last_late=now if arrival else facts.last_late)
    assert judge(rules, facts, T0 + rules.max_s).over is not None


@given(rules_of_any_kind, words, rates, st.just(NEVER) | moments, st.none() | moments)
def test_a_lone_pod_leaves_by_latest_or_by_the_cap(rules, word, arrivals, latest, followed):
    """Whoever else is or is not ready, and since when: the hold is bounded, and asked for a few times."""
    facts = Facts(T0, word, None, arrivals, latest, followed)
    bound = max(T0 + rules.max_s, latest)
    now, asked = T0, 0
    while (verdict := judge(rules, facts, now)).over is None:
        assert now < verdict.check_at <= bound
        now, asked = verdict.check_at, asked + 1
        assert asked <= 2


@given(rules_of_any_kind, words, moments, rates, st.floats(0, 300))
def test_only_the_word_gone_counts_as_gone(rules, evidence, last_late, arrivals, after):
    """Unknown and routable are never taken for gone, however long it lasts."""
    over = judge(rules, Facts(T0, evidence, last_late, arrivals), T0 + after).over
    if evidence.state is not Routability.GONE:
        assert over is not Reason.SLICES_QUIET
    else:
        assert over is not Reason.QUIET


@given(rules_of_any_kind, words, st.floats(0, 300), st.floats(0, 100), rates, st.floats(0, 300))
def test_a_later_arrival_never_ends_it_earlier(rules, evidence, late, later, arrivals, after):
    """Sound can only prolong."""
    early = Facts(T0, evidence, T0 + late, arrivals)
    loud = replace(early, last_late=T0 + late + later)
    if judge(rules, loud, T0 + after).over not in {None, Reason.MAX}:
        assert judge(rules, early, T0 + after).over is not None
