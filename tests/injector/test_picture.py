"""docs/pod.svg: the README's picture of a pod says what the injector writes, and reads in light and dark."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from drainproxy.injector.patch import Injected, InjectorDefaults, inject
from tests.injector.pods import app, pod

SVG = "{http://www.w3.org/2000/svg}"
PICTURE = Path(__file__).parents[2] / "docs" / "pod.svg"
AA = 4.5
"""The contrast that text needs (WCAG 2.2, 1.4.3)."""


def drawn() -> list[str]:
    """Every text in it."""
    return [each.text or "" for each in ET.parse(PICTURE).iter(f"{SVG}text")]


def test_its_ports_and_hooks_are_those_of_an_injected_pod():
    """Whoever wires a pod by the picture has what the webhook would have made."""
    outcome = inject(pod(app("shop", ("http", 8080))), InjectorDefaults())
    assert isinstance(outcome, Injected)
    spec = outcome.pod["spec"]
    (ours,) = [each for each in spec["initContainers"] if each["name"] == "drainproxy"]
    (application,) = spec["containers"]
    hook = application["lifecycle"]["preStop"]["httpGet"]
    probe = ours["readinessProbe"]["httpGet"]
    said = drawn()
    assert f":{ours['ports'][0]['containerPort']}" in said
    assert f":{hook['port']}" in said
    assert f":{application['ports'][0]['containerPort']}" in said
    assert f"GET {hook['path']}" in said
    assert hook["port"] == probe["port"]
    assert any(probe["path"] in each for each in said)
    begins = " ".join(ours["lifecycle"]["preStop"]["exec"]["command"])
    assert begins.removeprefix("drainproxy ") in said


def test_it_shows_everybody_who_takes_part():
    """Callers, Service, sidecar, application, kubelet, and who is asked whether callers are sent here."""
    said = " ".join(drawn())
    for each in ("callers", "Service", "drainproxy", "application", "kubelet", "EndpointSlices", "preStop"):
        assert each in said


def colours(dark: bool) -> dict[str, str]:
    """The fill of each class, as a screen of either kind has it."""
    style = ET.parse(PICTURE).find(f"{SVG}style")
    assert style is not None
    light, _, night = (style.text or "").partition("@media (prefers-color-scheme: dark) {")
    rule = re.compile(r"^\s*\.?(\w+) \{[^}]*?fill: (#\w{6})", re.MULTILINE)
    found = dict(rule.findall(light))
    return found | dict(rule.findall(night)) if dark else found


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_its_words_can_be_read(dark):
    """On its own background, whatever page it stands on: text of either kind on each box."""
    fill = colours(dark)
    pairs = [(text, under) for text in ("text", "soft") for under in ("paper", "box", "ours")]
    for text, under in [*pairs, ("number", "mark")]:
        lighter, darker = sorted((luminance(fill[text]), luminance(fill[under])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= AA, (text, under)


def test_no_text_leaves_the_picture():
    """At eight pixels a letter, which is more than any of its fonts needs."""
    root = ET.parse(PICTURE).getroot()
    width = float(root.attrib["width"])
    for each in root.iter(f"{SVG}text"):
        assert float(each.attrib["x"]) + 8 * len(each.text or "") <= width, each.text
