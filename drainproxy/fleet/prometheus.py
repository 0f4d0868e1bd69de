"""Drains that a Prometheus remembers, as records of observed.py: one a pod, from its last samples.

A drain that ended between two scrapes is seen as the last one saw it. Whatever goes wrong is one sentence.
Called by the command line.
"""

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drainproxy.fleet.observed import Observed
from drainproxy.kube.identity import workload_of
from drainproxy.metrics import OUTCOMES, PREFIX

TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_WHY_CHARS = 200

GAUGES = {
    "flipped_after_s": "endpoint_flip_seconds",
    "last_late_s": "last_late_seconds",
    "unused_s": "drain_unused_seconds",
    "longest_request_s": "drain_longest_request_seconds",
}

Pod = tuple[str, str, str]
"""Namespace, workload, pod."""


class NoAnswer(Exception):
    """A Prometheus did not say what was asked; one sentence says why."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Where it is, and how to get in. `matchers`: more of what selects a series, as PromQL has it."""

    url: str
    token: str = ""
    authority: Path | None = None
    matchers: str = ""

    def drains(self, within: str) -> list[Observed]:
        """Return what is known of each pod that drained `within` a duration of PromQL. Raises NoAnswer."""
        ends = self._by_pod(f"max_over_time({{}}[{within}]) > 0", "propagation_end_total")
        if not ends:
            raise NoAnswer(
                f"{self.url} has no drain of the last {within}: no pod with {PREFIX}propagation_end_total"
            )
        numbers = {
            name: self._by_pod(f"max_over_time({{}}[{within}])", metric) for name, metric in GAUGES.items()
        }
        phases = self._by_pod(f"max_over_time({{}}[{within}])", "phase_duration_seconds")
        requests = self._by_pod(f"max_over_time({{}}[{within}])", "drain_requests_total")
        return [
            _observed(pod, said, numbers, phases.get(pod, []), requests.get(pod, []))
            for pod, said in ends.items()
        ]

    def _by_pod(self, query: str, metric: str) -> dict[Pod, list[tuple[Mapping[str, str], float]]]:
        selector = f"{PREFIX}{metric}{{{self.matchers}}}"
        found: dict[Pod, list[tuple[Mapping[str, str], float]]] = {}
        for labels, value in self._ask(query.replace("{}", selector)):
            pod = labels.get("pod") or labels.get("instance", "")
            workload = labels.get("workload") or workload_of(pod)
            found.setdefault((labels.get("namespace", ""), workload, pod), []).append((labels, value))
        return found

    def _ask(self, query: str) -> Iterator[tuple[Mapping[str, str], float]]:
        body = self._get(f"{self.url.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
        try:
            said = json.loads(body)
            if said["status"] != "success":
                raise NoAnswer(f"{self.url}: {str(said.get('error'))[:MAX_WHY_CHARS]}")
            for series in said["data"]["result"]:
                yield series["metric"], float(series["value"][1])
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            raise NoAnswer(
                f"{self.url} answers, and is no Prometheus: give its address, without /graph"
            ) from None

    def _get(self, url: str) -> bytes:
        if not url.startswith(("http://", "https://")):
            raise NoAnswer(f"{self.url} is no http or https URL")
        fields = {"Accept": "application/json"}
        if self.token:
            fields["Authorization"] = f"Bearer {self.token}"
        try:
            context = ssl.create_default_context(cafile=self.authority)
            request = urllib.request.Request(url, headers=fields)  # noqa: S310 - looked at above
            with urllib.request.urlopen(  # noqa: S310 - as above
                request, timeout=TIMEOUT_S, context=context
            ) as answer:
                return bytes(answer.read(MAX_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            said = _error(error.read(MAX_ANSWER_BYTES)) or error.reason
            raise NoAnswer(f"{self.url} answers {error.code}: {said}") from None
        except urllib.error.URLError as error:
            raise NoAnswer(f"{self.url}: {_reason(error.reason)}") from None
        except (OSError, ValueError) as error:
            raise NoAnswer(f"{self.url}: {_reason(error)}") from None


def _error(body: bytes) -> str:
    """Return what Prometheus says of a query that it does not take."""
    try:
        return str(json.loads(body)["error"])[:MAX_WHY_CHARS]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _reason(error: object) -> str:
    text = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())[:MAX_WHY_CHARS]


def _observed(
    pod: Pod,
    ends: list[tuple[Mapping[str, str], float]],
    numbers: Mapping[str, Mapping[Pod, list[tuple[Mapping[str, str], float]]]],
    phases: list[tuple[Mapping[str, str], float]],
    requests: list[tuple[Mapping[str, str], float]],
) -> Observed:
    gauges: dict[str, Any] = {
        name: max((value for _, value in of.get(pod, ())), default=None) for name, of in numbers.items()
    }
    spent = {labels.get("phase"): value for labels, value in phases}
    became = {labels.get("outcome"): value for labels, value in requests}
    namespace, workload, _ = pod
    return Observed(
        workload="/".join(each for each in (namespace, workload) if each) or "-",
        ended=max(ends, key=lambda each: each[1])[0].get("reason", ""),
        propagating_s=spent.get("propagating", 0.0),
        draining_s=spent.get("draining", 0.0),
        unused_s=gauges["unused_s"] or 0.0,
        # 0 is what a gauge is before anything has happened.
        flipped_after_s=gauges["flipped_after_s"] or None,
        last_late_s=gauges["last_late_s"] or None,
        longest_silence_s=None,
        arrivals_per_s=None,
        longest_request_s=gauges["longest_request_s"] or 0.0,
        lost=int(sum(became.get(outcome, 0.0) for outcome in OUTCOMES if outcome != "finished")),
    )
