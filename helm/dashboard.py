"""Writes the chart's Grafana dashboard from the tables of panels.py: `python helm/dashboard.py`.

tests/chart compares the file with the tables; tests/monitoring puts every query to a real Prometheus.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# Also where a test loads this file by its path.
sys.path.insert(0, str(Path(__file__).parent))

from panels import COLOURS, FULL, ROWS, Panel
from promql import CALLERS, POD, ended

FILE = Path(__file__).parent / "drainproxy" / "dashboards" / "drainproxy.json"
SOURCE = {"type": "prometheus", "uid": "$datasource"}
HEIGHTS = {"stat": 4, "table": 9, "timeseries": 8}


def dashboard() -> dict[str, Any]:
    """Return Grafana's JSON model."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append({"type": "row", "title": title, "gridPos": _place(0, top, FULL, 1), "panels": []})
        top, left, height = top + 1, 0, 0
        for panel in row:
            if left + panel.width > FULL:
                top, left = top + height, 0
            height = HEIGHTS[panel.kind]
            panels.append(_panel(panel, _place(left, top, panel.width, height)))
            left += panel.width
        top += height
    for number, each in enumerate(panels, 1):
        each["id"] = number
    return {
        "uid": "drainproxy",
        "title": "drainproxy",
        "tags": ["drainproxy"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "annotations": {"list": [_rollouts()]},
        "links": [_link("Runbooks", "$runbooks"), _link("Logs", "$logs")],
        "panels": panels,
    }


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _link(title: str, url: str) -> dict[str, Any]:
    return {"type": "link", "title": title, "url": url, "targetBlank": True, "icon": "doc"}


def _rollouts() -> dict[str, Any]:
    """Where pods left: in a rollout, a scale-down, off a node that is drained; pushed or scraped."""
    left = ended("propagation_end", "reason").replace("<labels>", POD)
    return {
        "name": "rollouts",
        "datasource": SOURCE,
        "enable": True,
        "iconColor": "purple",
        "expr": f"sum by (namespace, workload) ({left}) > 0",
        "step": "60s",
        "titleFormat": "pods left",
        "textFormat": "{{namespace}}/{{workload}}",
    }


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    options: dict[str, Any] = {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi"},
    }
    overrides = [_colour(value, colour) for value, colour in COLOURS.items()]
    more: dict[str, Any] = {}
    if panel.kind == "stat":
        steps = [{"color": "green", "value": None}, {"color": panel.bad, "value": 0.5}]
        defaults |= {"decimals": 0, "noValue": "0", "thresholds": {"mode": "absolute", "steps": steps}}
        options = {"colorMode": "value", "graphMode": "none", "reduceOptions": {"calcs": ["lastNotNull"]}}
        overrides = []
    if panel.kind == "table":
        options = {"sortBy": [{"displayName": "ended", "desc": True}], "footer": {"show": False}}
        overrides, more = _columns(list(panel.queries)), _rows(list(panel.queries))
    once = panel.kind != "timeseries"
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "expr": query.replace("<labels>", POD),
                "legendFormat": legend,
                **({"instant": True, "range": False} if once else {}),
                **({"format": "table"} if panel.kind == "table" else {}),
            }
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
        **more,
    }


def _colour(value: str, colour: str) -> dict[str, Any]:
    """Give a series whose legend ends in this word its colour."""
    fixed = {"mode": "fixed", "fixedColor": colour}
    return {
        "matcher": {"id": "byRegexp", "options": f"/(^|.* ){value}$/"},
        "properties": [{"id": "color", "value": fixed}],
    }


def _columns(names: list[str]) -> list[dict[str, Any]]:
    """Say how a table's columns are written: dates, seconds, what is bad, and where a pod leads to."""
    link = {"title": "logs of ${__value.text}", "url": "${logs}${__value.text}", "targetBlank": True}
    red = [{"color": "green", "value": None}, {"color": "red", "value": 0.5}]
    properties: dict[str, list[dict[str, Any]]] = {
        "pod": [{"id": "links", "value": [link]}],
        "ended": [{"id": "unit", "value": "dateTimeAsIso"}],
        "seconds": [{"id": "unit", "value": "s"}],
        "lost": [
            {"id": "thresholds", "value": {"mode": "absolute", "steps": red}},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
        ],
    }
    assert properties.keys() <= {"pod", *names}
    return [
        {"matcher": {"id": "byName", "options": name}, "properties": of} for name, of in properties.items()
    ]


def _rows(names: list[str]) -> dict[str, Any]:
    """Join a table's queries by their labels, and call their values what they are."""
    values = {f"Value #{chr(ord('A') + number)}": name for number, name in enumerate(names)}
    said = {"cause", "propagation ended by"}
    hidden = {value: True for value, name in values.items() if name in said} | {"Time": True}
    shown = {value: name for value, name in values.items() if name not in said}
    organize = {
        "excludeByName": hidden,
        "renameByName": {**shown, "reason": "propagation ended by"},
        "indexByName": {
            name: place
            for place, name in enumerate(
                ("Value #A", "cluster", "namespace", "workload", "pod", "cause", "reason", *values)
            )
        },
    }
    return {
        "transformations": [
            {"id": "merge", "options": {}},
            {"id": "organize", "options": organize},
            {"id": "sortBy", "options": {"sort": [{"field": "ended", "desc": True}]}},
            {"id": "limit", "options": {"limitField": 50}},
        ]
    }


def _variables() -> list[dict[str, Any]]:
    source = {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus"}
    metrics = {name: metric for name, (metric, _, _) in CALLERS.items()}
    callers = {
        "name": "caller",
        "label": "callers' side",
        "type": "custom",
        # Grafana cuts the list at its commas.
        "query": ", ".join(f"{name} : {metric}" for name, metric in metrics.items()),
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }
    within = 'cluster=~"$cluster"'
    return [
        source,
        _series("cluster", "label_values(drainproxy_phase, cluster)"),
        _series("namespace", f"label_values(drainproxy_phase{{{within}}}, namespace)"),
        _series("workload", f'label_values(drainproxy_phase{{{within}, namespace=~"$namespace"}}, workload)'),
        callers,
        _address("runbooks", "runbooks at", "docs/runbooks.md#"),
        _address("logs", "logs of a pod at", ""),
    ]


def _address(name: str, label: str, address: str) -> dict[str, Any]:
    """Return a variable that the chart fills in; of logs, what a pod's name is appended to."""
    return {
        "name": name,
        "label": label,
        "type": "textbox",
        "query": address,
        "current": {"text": address, "value": address},
    }


def _series(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": query,
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def text() -> str:
    """Return the file's contents."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text(), "utf-8")
    sys.stdout.write(f"{FILE.name}: written\n")
