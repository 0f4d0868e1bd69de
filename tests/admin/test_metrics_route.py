"""/metrics: both formats, and every series of a closed set from the start."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from drainproxy.metrics import PREFIX, Family

OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
FORMATS = {
    "anything": ("*/*", TEXT_TYPE, False),
    "text": ("text/plain", TEXT_TYPE, False),
    "openmetrics": (OPENMETRICS, OPENMETRICS_TYPE, True),
}
MAX_IDLE_SERIES = 240


@pytest.mark.parametrize(("accept", "content_type", "openmetrics"), FORMATS.values(), ids=FORMATS)
async def test_the_format_is_what_the_scraper_accepts(premises, accept, content_type, openmetrics):
    """What Prometheus sends, and what curl sends."""
    answer = await premises.ask("GET /metrics", head=f"Host: x\r\nAccept: {accept}")
    assert answer.status == 200
    assert answer.fields["content-type"].startswith(content_type)
    assert answer.text.endswith("# EOF\n") is openmetrics


async def test_openmetrics_is_what_a_strict_parser_takes(premises):
    """A family's name is unique there, and a counter's is its series' without `_total`."""
    answer = await premises.ask("GET /metrics", head=f"Host: x\r\nAccept: {OPENMETRICS}")
    names = {family.name for family in parse_openmetrics(answer.text)}
    assert {PREFIX + "phase", PREFIX + "drain_deadline_seconds", PREFIX + "requests_in_flight"} <= names


async def test_every_closed_label_is_there_at_zero(premises):
    """A series first seen at 1 has no increase: the alert on it would stay silent."""
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text((await premises.ask("GET /metrics")).text)
        for sample in family.samples
    }
    own = [key for key in samples if key[0].startswith(PREFIX)]
    at_zero = 0
    for family in premises.metrics.families():
        # What nobody has switched on has no series.
        if family in premises.metrics.unused:
            continue
        if isinstance(family, Family) and all(family.closed.values()):
            for labels in itertools.product(*family.closed.values()):
                key = (PREFIX + family.name, tuple(sorted(zip(family.labels, labels, strict=True))))
                at_zero += samples[key] == 0.0
    assert at_zero >= 50
    assert samples[PREFIX + "phase", (("phase", "ready"),)] == 1.0
    assert len(own) <= MAX_IDLE_SERIES


async def test_a_drain_is_seen_in_the_numbers(premises):
    """The deadline gauge is worked out when asked."""
    premises.sigterm()
    text = (await premises.ask("GET /metrics")).text
    values = {family.name: family.samples for family in parse_text(text)}
    phase = {sample.labels["phase"]: sample.value for sample in values[PREFIX + "phase"]}
    assert phase == {"starting": 0, "ready": 0, "propagating": 1, "draining": 0, "drained": 0}
    (left,) = values[PREFIX + "drain_deadline_seconds"]
    assert 7000 < left.value < 7193


async def test_scrapes_at_the_same_time_all_succeed(premises):
    """Two Prometheus servers and a person."""
    answers = await asyncio.gather(*(premises.ask("GET /metrics") for _ in range(8)))
    assert [answer.status for answer in answers] == [200] * 8
