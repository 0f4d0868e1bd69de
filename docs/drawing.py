"""Draws docs/capture.svg: how `auto` chooses a door, and what each door does. Called by generate.py.

Words and nothing else are decided here; injector/capture.py decides about pods, and tests compare the two.
"""

from __future__ import annotations

from html import escape

WIDTH, ROW, TOP = 980, 92, 64
ASKED_X, ASKED_W, DOOR_X, DOOR_W = 20, 330, 430, 530
HEIGHT_OF = 64

STEPS = (
    ("Is there upstream-port?", "", "explicit", "Services lead to the sidecar already: nothing moves"),
    (
        "Does no port say HTTP?",
        "ports, or a name, a probe, a Service",
        "left alone",
        "the reason names the ports that there are",
    ),
    ("Is there app-port-env?", "", "env", "callers → sidecar :8080 → application :28080, told by PORT"),
    (
        "Is there app-host-env?",
        "",
        "address",
        "callers → sidecar pod:8080 → application 127.0.0.1:8080, told by HOST",
    ),
    (
        "Does a Service lead to a number,",
        "and may packets be led?",
        "redirect",
        "callers :8080 → nftables → sidecar :28080 → application 127.0.0.1:8080",
    ),
    (
        "Has every one of the ports a name?",
        "of one container each",
        "name",
        "callers → name http, now the sidecar's :28080 → application :8080",
    ),
    (
        "May packets be led?",
        "allowed, PodSecurity privileged, no mesh",
        "redirect",
        "callers :8080 → nftables → sidecar :28080 → application 127.0.0.1:8080",
    ),
    ("Has one of the ports a name?", "", "name", "for those that have; what goes around is said"),
)
"""Question, its second line, the door that a yes opens, and what that does."""
LAST = ("left alone", "the reason says which door is nearest, and what opens it")
COLOURS = {
    "explicit": "#5b6b7b",
    "left alone": "#a33b3b",
    "env": "#7a5c1e",
    "address": "#1e6b5c",
    "redirect": "#5b3b8c",
    "name": "#1f5fa8",
}


def tree() -> str:
    """Return the picture."""
    height = TOP + ROW * (len(STEPS) + 1) + 10
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}"'
            f' height="{height}" font-family="DejaVu Sans, Verdana, sans-serif" role="img"'
            ' aria-labelledby="title">'
        ),
        '<title id="title">How a pod with the label drainproxy.io/inject is captured</title>',
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        _text(ASKED_X, 34, "A pod with the label drainproxy.io/inject, capture: auto", size=17, bold=True),
    ]
    for i, (question, more, door, does) in enumerate(STEPS):
        y = TOP + i * ROW
        middle = y + HEIGHT_OF // 2
        parts += [
            (
                f'<rect x="{ASKED_X}" y="{y}" width="{ASKED_W}" height="{HEIGHT_OF}" rx="6" fill="#f3f5f8"'
                ' stroke="#8a97a6"/>'
            ),
            _text(ASKED_X + 14, y + (28 if more else 38), question, size=15, bold=True),
            _text(ASKED_X + 14, y + 49, more, size=12),
            *_arrow(ASKED_X + ASKED_W, middle, DOOR_X, middle, "yes"),
            *_arrow(ASKED_X + 60, y + HEIGHT_OF, ASKED_X + 60, y + ROW, "no"),
            *_door(y, door, does),
        ]
    y = TOP + len(STEPS) * ROW
    parts += [*_door(y, *LAST, x=ASKED_X, width=DOOR_X + DOOR_W - ASKED_X), "</svg>"]
    return "\n".join(part for part in parts if part) + "\n"


def _door(y: int, door: str, does: str, x: int = DOOR_X, width: int = DOOR_W) -> list[str]:
    return [
        f'<rect x="{x}" y="{y}" width="{width}" height="{HEIGHT_OF}" rx="6" fill="{COLOURS[door]}"/>',
        _text(x + 14, y + 26, door, size=16, bold=True, colour="#ffffff"),
        _text(x + 14, y + 49, does, size=12.5, colour="#ffffff"),
    ]


def _arrow(x1: int, y1: int, x2: int, y2: int, word: str) -> list[str]:
    head = (
        f"M{x2 - 8},{y2 - 5} L{x2},{y2} L{x2 - 8},{y2 + 5}"
        if y1 == y2
        else (f"M{x2 - 5},{y2 - 8} L{x2},{y2} L{x2 + 5},{y2 - 8}")
    )
    at = (x1 + x2) // 2 - 12, (y1 - 7 if y1 == y2 else (y1 + y2) // 2 + 5)
    beside = at[0] if y1 == y2 else x1 + 10
    return [
        f'<path d="M{x1},{y1} L{x2},{y2} {head}" fill="none" stroke="#3a4552" stroke-width="1.5"/>',
        _text(beside, at[1], word, size=12),
    ]


def _text(x: int, y: int, text: str, *, size: float, bold: bool = False, colour: str = "#1b232c") -> str:
    if not text:
        return ""
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}"{weight} fill="{colour}">{escape(text)}</text>'
