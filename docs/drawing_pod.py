"""Draws docs/pod.svg: who talks to whom in a pod with the sidecar, and what happens at its end.

Called by generate.py. Readable on light and dark: it has its own background, and colours for either. What
it says of ports and hooks a test compares with what the injector writes.
"""

from __future__ import annotations

from html import escape

WIDTH, HEIGHT = 980, 500
LEFT, LEFT_W = 20, 180
POD_X, POD_Y, POD_W, POD_H = 262, 44, 698, 222
OURS_X, OURS_W, APP_X, APP_W = 296, 330, 752, 184
BOX_Y, BOX_H = 84, 160
KUBELET_Y, KUBELET_H = 338, 40
TRAFFIC_Y, SLICES_Y = 124, 206

PORT, ADMIN, APPLICATION = "28080", "29900", "8080"
BEGINS, WAITS = "drainproxy drain --prestop", "/drain/wait"

STEPS = (
    "The kubelet runs both preStop hooks at once: the sidecar's begins the drain, the application's waits.",
    "Callers still come, and are served, until the EndpointSlices have flipped and nobody new comes.",
    "What was let in is finished, each request with a deadline; WebSockets and streams are told to leave.",
    "The waiting hook is answered: the application gets SIGTERM, and drainproxy leaves last.",
)

STYLE = """
text { font-family: "DejaVu Sans", Verdana, sans-serif; font-size: 13px; fill: #1b232c; }
.name { font-size: 16px; font-weight: 600; }
.soft { fill: #4d5b6a; font-size: 12px; }
.mono { font-family: "DejaVu Sans Mono", monospace; font-size: 12.5px; }
.paper { fill: #ffffff; }
.pod { fill: none; stroke: #8a97a6; stroke-dasharray: 5 4; }
.box { fill: #f3f5f8; stroke: #8a97a6; }
.ours { fill: #e3eefb; stroke: #1f5fa8; }
.line { fill: none; stroke: #3a4552; stroke-width: 1.5; }
.mark { fill: #1f5fa8; }
.number { fill: #ffffff; font-size: 12px; font-weight: 600; text-anchor: middle; }
@media (prefers-color-scheme: dark) {
  text { fill: #e4eaf0; }
  .soft { fill: #a9b6c4; }
  .paper { fill: #161b22; }
  .pod { stroke: #6b7887; }
  .box { fill: #232b34; stroke: #6b7887; }
  .ours { fill: #17304d; stroke: #6ea8fe; }
  .line { stroke: #b7c3cf; }
  .mark { fill: #2f6fc0; }
}
"""


def pod() -> str:
    """Return the picture."""
    middle = BOX_Y + BOX_H
    hook_x, wait_x, stop_x = OURS_X + 24, OURS_X + 190, APP_X + 20
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
            f' height="{HEIGHT}" role="img" aria-labelledby="title">'
        ),
        '<title id="title">A pod with drainproxy: callers, Service, sidecar, application and hooks</title>',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        f'<rect class="pod" x="{POD_X}" y="{POD_Y}" width="{POD_W}" height="{POD_H}" rx="10"/>',
        _text(POD_X + 14, POD_Y + 24, "pod", "soft"),
        _box(LEFT, BOX_Y, LEFT_W, 62, "box"),
        _text(LEFT + 14, BOX_Y + 25, "callers", "name"),
        _text(LEFT + 14, BOX_Y + 46, "kube-proxy, ingress, mesh", "soft"),
        _box(LEFT, middle - 62, LEFT_W, 62, "box"),
        _text(LEFT + 14, middle - 37, "EndpointSlices", "name"),
        _text(LEFT + 14, middle - 16, "who is sent here?", "soft"),
        _box(OURS_X, BOX_Y, OURS_W, BOX_H, "ours"),
        _text(OURS_X + 16, BOX_Y + 28, "drainproxy, the sidecar", "name"),
        _text(OURS_X + 16, BOX_Y + 58, f":{PORT}", "mono"),
        _text(OURS_X + 76, BOX_Y + 58, "requests, to the last one"),
        _text(OURS_X + 16, BOX_Y + 84, f":{ADMIN}", "mono"),
        _text(OURS_X + 76, BOX_Y + 84, "/readyz, /status, /metrics"),
        _text(OURS_X + 76, BOX_Y + 106, WAITS),
        _text(OURS_X + 16, BOX_Y + 140, "listens to callers' silence, watches slices", "soft"),
        _box(APP_X, BOX_Y, APP_W, BOX_H, "box"),
        _text(APP_X + 16, BOX_Y + 28, "application", "name"),
        _text(APP_X + 16, BOX_Y + 58, f":{APPLICATION}", "mono"),
        _text(APP_X + 16, BOX_Y + 84, "kept until nobody"),
        _text(APP_X + 16, BOX_Y + 106, "needs it any more"),
        _across(LEFT + LEFT_W, OURS_X, TRAFFIC_Y, "Service"),
        _across(OURS_X, LEFT + LEFT_W, SLICES_Y, "watch"),
        _across(OURS_X + OURS_W, APP_X, TRAFFIC_Y, "forwards"),
        _box(OURS_X, KUBELET_Y, APP_X + APP_W - OURS_X, KUBELET_H, "box"),
        _text(OURS_X + 16, KUBELET_Y + 26, "kubelet", "name"),
        *_up(hook_x, "1", "the sidecar's preStop", BEGINS.removeprefix("drainproxy ")),
        *_up(wait_x, "1", "the application's preStop", f"GET {WAITS}"),
        *_up(stop_x, "4", "SIGTERM, when its", "hook is answered"),
    ]
    for index, step in enumerate(STEPS):
        y = KUBELET_Y + KUBELET_H + 30 + index * 24
        parts += [*_number(LEFT + 12, y - 4, str(index + 1)), _text(LEFT + 32, y, step)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _box(x: int, y: int, width: int, height: int, kind: str) -> str:
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'


def _across(x1: int, x2: int, y: int, word: str) -> str:
    back = 8 if x2 > x1 else -8
    path = f"M{x1},{y} L{x2},{y} M{x2 - back},{y - 5} L{x2},{y} L{x2 - back},{y + 5}"
    return f'<path class="line" d="{path}"/>' + _text(min(x1, x2) + 8, y - 8, word, "soft")


def _up(x: int, number: str, *words: str) -> list[str]:
    """An arrow from the kubelet up to a box, with its number and its words beside it."""
    top, bottom = BOX_Y + BOX_H, KUBELET_Y
    path = f"M{x},{bottom} L{x},{top} M{x - 5},{top + 8} L{x},{top} L{x + 5},{top + 8}"
    said = [_text(x + 30, bottom - 42 + 18 * line, word, "soft") for line, word in enumerate(words)]
    return [f'<path class="line" d="{path}"/>', *_number(x + 16, bottom - 38, number), *said]


def _number(x: int, y: int, number: str) -> list[str]:
    return [f'<circle class="mark" cx="{x}" cy="{y}" r="9"/>', _text(x, y + 4, number, "number")]


def _text(x: int, y: int, text: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x}" y="{y}">{escape(text)}</text>'
