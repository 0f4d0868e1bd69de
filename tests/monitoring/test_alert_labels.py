"""Alerts by team and by class, as the values say, in promtool's own test runner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.monitoring.prometheus import alerts, chosen, needs_prometheus, promtool

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_prometheus

TEAM = {"podLabels": ["team"]}
BATCH = {"prometheusRule": {"classes": {"batch": {"requestsLost": 5, "deadlineDrains": 3}}}}


def cut(workload: str, count: int) -> dict[str, str]:
    """A drain that cut so many requests."""
    of = f'namespace="shop",workload="{workload}",pod="{workload}-1"'
    return {f'drainproxy_drain_requests_total{{{of},outcome="cut"}}': f"0x3 {count} stale"}


def known(workload: str, **labels: str) -> dict[str, str]:
    """What a pod of it says of itself, with what its labels add."""
    more = "".join(f',{name}="{text}"' for name, text in labels.items())
    of = f'namespace="shop",workload="{workload}",pod="{workload}-1"{more}'
    return {f"drainproxy_build_info{{{of}}}": "1x4 stale"}


def firing(name: str, series: dict[str, str], expected: list[dict[str, str]], directory: Path, **values: Any):
    """Compare the labels of what fires at minute 6, in any order, with `expected`."""
    file = chosen(**values)
    (rule,) = (each for each in alerts(file) if each["alert"] == name)
    exp = [
        {
            "exp_labels": {**labels, **rule["labels"]},
            "exp_annotations": {**rule["annotations"], "description": described},
        }
        for described, labels in ((each.pop("description"), each) for each in expected)
    ]
    test = {
        "interval": "1m",
        "input_series": [{"series": each, "values": of} for each, of in series.items()],
        "alert_rule_test": [{"eval_time": "6m", "alertname": name, "exp_alerts": exp}],
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": [test]}
    said = promtool(document, directory, file)
    assert not said, said


def page(workload: str, count: int, **more: str) -> dict[str, str]:
    said = f"{count} requests and tunnels of shop/{workload} were cut or lost in 10 minutes."
    return {"namespace": "shop", "workload": workload, "description": said, **more}


LOST = "DrainproxyRequestsLost"


def test_an_alert_has_its_workloads_team(tmp_path):
    """So that it finds its way; the number is what it was without."""
    series = cut("till", 2) | known("till", team="money") | cut("web", 3) | known("web", team="front")
    firing(LOST, series, [page("till", 2, team="money"), page("web", 3, team="front")], tmp_path, **TEAM)


def test_who_has_no_team_is_told_of_all_the_same(tmp_path):
    """Without the label, and where no scrape has seen the pod at all."""
    pushed = 'drainproxy_final_drain_requests{namespace="shop",workload="web",pod="web-1",outcome="cut"}'
    series = cut("till", 2) | known("till") | {pushed: "_x4 3"}
    firing(LOST, series, [page("till", 2), page("web", 3)], tmp_path, **TEAM)


def test_a_workload_between_two_teams_is_told_of_once(tmp_path):
    """While it is handed over, pods have one label and the other."""
    other = known("till", team="new")
    other = {name.replace("till-1", "till-2"): values for name, values in other.items()}
    series = cut("till", 2) | known("till", team="old") | other
    with pytest.raises(AssertionError, match=r"team=\"(old|new)\""):
        firing(LOST, series, [], tmp_path, **TEAM)
    both = [page("till", 2, team="old"), page("till", 2, team="new")]
    with pytest.raises(AssertionError):
        firing(LOST, series, both, tmp_path, **TEAM)


@pytest.mark.parametrize(("count", "fires"), [(5, False), (6, True)])
def test_a_class_has_thresholds_of_its_own(count, fires, tmp_path):
    """Whose pods say so; whoever says nothing has the usual ones."""
    series = cut("till", count) | known("till", alerts="batch") | cut("web", 1) | known("web")
    expected = [page("till", count)] * fires + [page("web", 1)]
    firing(LOST, series, expected, tmp_path, **BATCH)


def test_what_a_class_allows_hides_nothing_else(tmp_path):
    """Two cut are allowed: that three others were refused is told, which a page would have silenced."""
    of = 'namespace="shop",workload="till",pod="till-1"'
    refused = {f'drainproxy_drain_requests_total{{{of},outcome="refused"}}': "0x3 3 stale"}
    said = "3 requests and tunnels of shop/till were refused in drains in 10 minutes."
    expected = [{"namespace": "shop", "workload": "till", "description": said}]
    series = cut("till", 2) | refused | known("till", alerts="batch")
    firing("DrainproxyRefused", series, expected, tmp_path, **BATCH)
    firing(LOST, series, [], tmp_path, **BATCH)


def test_team_and_class_go_together(tmp_path):
    """Both from the values."""
    series = cut("till", 6) | known("till", alerts="batch", team="money")
    firing(LOST, series, [page("till", 6, team="money")], tmp_path, **TEAM, **BATCH)
