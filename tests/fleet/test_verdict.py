"""What is said of pods that have left: lost, not known, nothing lost; and one sentence a kind of trouble."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any

import pytest

from drainproxy.cli.wiring import wiring
from drainproxy.fleet.departures import Departures
from drainproxy.fleet.verdict import Verdict, judge
from tests.fleet.records import BARE, NATIVE, NOW, event, pod, report


def verdict(*said: dict[str, Any] | None, spec: dict[str, Any] = NATIVE, **missing: str) -> Verdict:
    """Return what is said of pods with these reports."""
    books = Departures("web", NOW - timedelta(hours=1))
    for number, each in enumerate(said):
        message = None if each is None else json.dumps(each)
        name = f"web-5d4f7c9b8-x2x9{'bcdfgh'[number]}"
        books.pod(pod(name=name, uid=name, deleted_s=5, message=message, spec=spec), deleted=True, now=NOW)
    return judge(books, missing, wiring)


def kinds(said: Verdict) -> list[str]:
    """Return the kinds of advice."""
    return [each.kind for each in said.advice]


def sentence(said: Verdict, kind: str) -> str:
    """Return one of its sentences."""
    return next(each.sentence for each in said.advice if each.kind == kind)


def test_nothing_was_lost():
    """A late request that was served is none of a loss."""
    said = verdict(report(late=30), report())
    assert (said.exit_code, said.advice) == (0, ())
    assert said.sentence("deploy/web") == "2 pods of deploy/web left: nothing was lost"


def test_one_pod_is_no_plural():
    """Of a person who reads it."""
    assert verdict(report()).sentence("deploy/web") == "1 pod of deploy/web left: nothing was lost"


def test_what_was_lost_counts_more_than_what_is_not_known():
    """And both are said."""
    said = verdict(report(cut=1, timed_out=2), None)
    assert said.exit_code == 1
    text = said.sentence("deploy/web")
    assert text == "2 pods of deploy/web left: 3 were lost by 1 of them; not known for web-5d4f7c9b8-x2x9c"


@pytest.mark.parametrize("ended", ["max", "alone", "deadline", "upstream_gone", "interrupted"])
def test_a_pod_that_left_before_callers_had_stopped_is_not_known(ended):
    """Who came behind it found nobody who counts."""
    said = verdict(report(ended=ended, last_late_s=5.4))
    assert said.exit_code == 2
    assert "who came later it could not count" in next(iter(said.unknown.values()))


@pytest.mark.parametrize("last_late_s", [None, 1.0])
def test_a_cap_behind_which_nobody_came_has_lost_nothing(last_late_s):
    """Callers had been silent for longer than they ever were before."""
    assert verdict(report(ended="max", last_late_s=last_late_s, longest_silence_s=0.5)).exit_code == 0


CASES = {
    "deadline": (
        report(cut=1, longest_request_s=61.0),
        "terminationGracePeriodSeconds and grace_period to 84",
    ),
    "refused": (report(refused=3), "refused: they came in the last 1s before the deadline"),
    "application": (report(lost=1), "response_head_timeout and total_timeout"),
    "alone": (report(ended="alone"), "maxUnavailable: 0"),
    "capped": (report(ended="max", last_late_s=5.2), "callers still came 5.2 s into the drain"),
    "told-to-leave": (report(told=3), "asked to come back elsewhere (3)"),
}


@pytest.mark.parametrize(("kind", "case"), CASES.items(), ids=CASES.keys())
def test_each_kind_of_trouble_has_one_sentence(kind, case):
    """However many pods have it; it names what to change."""
    said, words = case
    judged = verdict(said, said)
    assert kinds(judged) == [kind]
    assert words in sentence(judged, kind)
    assert len(judged.advice[0].pods) == 2


def test_an_application_that_is_gone_too_soon_is_named_beside_the_hook_that_let_it_go():
    """The wrong port is the reason."""
    wrong = copy.deepcopy(NATIVE)
    wrong["containers"][0]["lifecycle"]["preStop"]["httpGet"]["port"] = 9
    judged = verdict(report(ended="upstream_gone"), spec=wrong)
    assert kinds(judged) == ["hook", "application"]
    assert "port 9 is not the admin port; write 29900" in sentence(judged, "hook")


def test_a_drain_timeout_of_the_settings_own_is_what_to_raise():
    """A longer grace period would change nothing."""
    spec = copy.deepcopy(NATIVE)
    spec["initContainers"][0]["env"] = [{"name": "DRAINPROXY_DRAIN_TIMEOUT", "value": "3s"}]
    judged = verdict(report(timed_out=1, longest_request_s=4.0), spec=spec)
    assert "with drain_timeout 3s; raise it" in sentence(judged, "deadline")


def test_why_nobody_knows_is_said():
    """What may not be read is named; else it was too late."""
    said = verdict(None)
    assert "gone before anybody looked" in next(iter(said.unknown.values()))
    assert kinds(said) == ["no-report"]
    said = verdict(None, events="403: no")
    assert "events could not be read" in next(iter(said.unknown.values()))


def test_a_sidecar_that_was_killed_could_not_report():
    """And its memory limit is what to raise."""
    books = Departures("web", NOW - timedelta(hours=1))
    books.pod(pod(deleted_s=5, exit_code=137, reason="OOMKilled"), deleted=True, now=NOW)
    said = judge(books, {}, wiring)
    assert (said.exit_code, kinds(said)) == (2, ["memory"])
    assert "before it could report: it ran out of memory" in next(iter(said.unknown.values()))


def test_pods_without_a_sidecar_are_told_from_those_of_which_nobody_knows():
    """By the ReplicaSet that made them, where they are gone, if no webhook may have had its say."""
    for labels, now, bare in (
        ({}, BARE, True),
        ({"drainproxy.io/inject": "true"}, BARE, False),
        ({}, NATIVE, False),
    ):
        books = Departures("web", NOW - timedelta(hours=1))
        template = {"metadata": {"labels": labels}, "spec": BARE}
        books.replica_set({"metadata": {"name": "web-5d4f7c9b8"}, "spec": {"template": template}})
        books.pod(pod(name="web-5d4f7c9b8-other", uid="u-9", spec=now), now=NOW)
        books.event(event("Killing", "Stopping container app"))
        books.absent(set(), NOW)
        said = judge(books, {}, wiring)
        assert said.exit_code == 2
        assert kinds(said) == (["no-sidecar"] if bare else ["no-report"])


def test_a_pod_that_is_still_leaving_is_not_known_yet():
    """Its report comes at the end."""
    books = Departures("web", NOW - timedelta(hours=1))
    books.pod(pod(deleted_s=5), now=NOW)
    said = judge(books, {}, wiring)
    assert (said.exit_code, list(said.unknown.values())) == (2, ["it is still leaving"])


def test_many_names_are_shortened():
    """A verdict is one line."""
    text = Verdict(30, {}, {f"web-{number}": "no" for number in range(30)}, ()).sentence("sts/web")
    assert text.endswith("web-9 and 20 more")
