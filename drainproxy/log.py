"""Lines on stdout: JSON for machines, text for a terminal. A blocked stdout never blocks the loop.

A thread of its own writes; the loop only puts finished lines into a bounded queue and drops them, counted,
when it is full. Conditions that a client can cause at will are rate-limited by name.
"""

import json
import logging
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, get_args

Format = Literal["auto", "json", "text", "ecs", "gcp"]
Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = get_args(Level)
ALWAYS = frozenset(("drain_report",))
"""Written whatever the level is: what a drain leaves behind."""

MAX_QUEUED_LINES = 4096
MAX_LINE_CHARS = 8192
MAX_FIELD_CHARS = 200
"""What is left of each field of a line over its limit."""
MAX_LINES_A_WRITE = 64
MAX_CLOSE_S = 1.0
"""For a reader that is slow, out of `reserve`."""
MAX_MESSAGE_CHARS = 300
ECS_VERSION = "8.11.0"
_ECS_NAMES = {
    "client": "client.address",
    "trace_id": "trace.id",
    "span_id": "span.id",
    "reason": "error.code",
    "detail": "error.message",
}
"""Ours -> theirs (Elastic Common Schema: field reference)."""
_ECS_NAMES_OF_REQUESTS = _ECS_NAMES | {
    "method": "http.request.method",
    "request_id": "http.request.id",
    "bytes_received": "http.request.body.bytes",
    "status": "http.response.status_code",
    "bytes": "http.response.body.bytes",
    "path": "url.path",
    "host": "url.domain",
    "user_agent": "user_agent.original",
}
"""The same in the line of a request: a path elsewhere is that of a file."""
_GCP_SIZES = {"bytes_received": "requestSize", "bytes": "responseSize"}
"""Ours -> theirs, where a number of 64 bits is a string."""
_GCP_NAMES = {
    "method": "requestMethod",
    "path": "requestUrl",
    "status": "status",
    "client": "remoteIp",
    "user_agent": "userAgent",
    "protocol": "protocol",
}
"""Ours -> theirs (Cloud Logging: HttpRequest)."""
LINES_PER_CONDITION = 10
"""Lines a second for one named condition; the rest is counted."""


class Log:
    """The process's voice. Format auto is text for a person at a terminal, JSON for everything else."""

    def __init__(
        self, format_: Format, *, descriptor: int = 1, level: Level = "info", project: str | None = None
    ) -> None:
        """`level`: lines below it are not written. `project`: of Google Cloud, for traces in gcp."""
        self._encode = _encoder(format_, project)
        self._least = LEVELS.index(level)
        self._descriptor = descriptor
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()
        self._rates: dict[str, tuple[int, int]] = {}
        self._written = 0
        """Bytes so far. Written by the log's own thread, as the next."""
        self.unwritten = 0
        """Lines that stdout refused. Written by the log's own thread."""
        self.on_dropped = _ignore
        """Called with `blocked` or `rate` for each line given up."""

    def event(self, event: str, /, level: str = "info", **fields: Any) -> None:
        """Write one line."""
        if level in LEVELS and LEVELS.index(level) < self._least and event not in ALWAYS:
            return
        if self._queue.qsize() >= MAX_QUEUED_LINES:
            self.on_dropped("blocked")
            return
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        first = {"time": stamp, "level": level, "event": event}
        line = self._encode({**first, **fields})
        if len(line) > MAX_LINE_CHARS:
            short = {name: _short(value) for name, value in fields.items()}
            line = self._encode({**first, **short, "shortened": True})
        self._queue.put(line)

    def condition(self, event: str, name: str, /, level: str = "warning", **fields: Any) -> None:
        """Write one line of a condition that may repeat: at most a few a second for each `name`.

        `name` comes from a closed set, so that the table of rates stays small.
        """
        second = int(time.monotonic())
        at, count = self._rates.get(name, (second, 0))
        count = count + 1 if at == second else 1
        self._rates[name] = (second, count)
        if count > LINES_PER_CONDITION:
            self.on_dropped("rate")
            return
        self.event(event, level, **fields)

    def close(self, timeout_s: float = 0.1) -> None:
        """Write what is queued, as long as stdout takes some of it every `timeout_s`, for MAX_CLOSE_S."""
        self._queue.put(None)
        until, written = time.monotonic() + MAX_CLOSE_S, -1
        while self._writer.is_alive() and written < self._written and time.monotonic() < until:
            written = self._written
            self._writer.join(timeout_s)

    def _write(self) -> None:
        while lines := self._take():
            data = ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
            while data:
                try:
                    written = os.write(self._descriptor, data)
                    self._written += written
                    data = data[written:]
                except BlockingIOError:
                    # Somebody who shares the pipe made it non-blocking.
                    select.select([], [self._descriptor], [])
                except OSError:
                    # Nobody reads any more: there is nowhere left to say so.
                    self.unwritten += len(lines)
                    break

    def _take(self) -> list[str]:
        """Wait for a line; return it and what has queued up behind it, or nothing at the end.

        One write for many: each costs the loop's thread a turn of its core.
        """
        lines = []
        while (line := self._queue.get()) is not None:
            lines.append(line)
            if len(lines) == MAX_LINES_A_WRITE or self._queue.empty():
                return lines
        if lines:
            self._queue.put(None)
        return lines


def _encoder(format_: Format, project: str | None) -> Callable[[dict[str, Any]], str]:
    if format_ == "auto":
        format_ = "text" if sys.stdout.isatty() else "json"
    if format_ == "gcp":
        return partial(_gcp_line, project)
    return {"text": _text_line, "ecs": _ecs_line}.get(format_, _json_line)


def _short(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float)) else str(value)[:MAX_FIELD_CHARS]


def _ignore(_reason: str, /) -> None: ...


def _json_line(fields: dict[str, Any]) -> str:
    # ASCII only: control characters and odd line separators come out escaped.
    try:
        return json.dumps(fields, separators=(",", ":"), default=str, allow_nan=False)
    except ValueError:
        return json.dumps({name: str(value) for name, value in fields.items()}, separators=(",", ":"))


def _ecs_line(fields: dict[str, Any]) -> str:
    """Return a line in the names of Elastic Common Schema; what has none stands under `drainproxy`."""
    stamp, level, event = fields.pop("time"), fields.pop("level"), fields.pop("event")
    line = {"@timestamp": stamp, "log.level": level, "message": _message(event, fields)}
    line["ecs.version"] = ECS_VERSION
    own: dict[str, Any] = {}
    names = _ECS_NAMES_OF_REQUESTS if "method" in fields else _ECS_NAMES
    nested: dict[str, Any] = {"event": {"action": event, "dataset": "drainproxy"}}
    for name, value in fields.items():
        if name == "duration_s" and isinstance(value, (int, float)):
            _put(nested, "event.duration", round(value * 1e9))
        elif name == "protocol" and names is _ECS_NAMES_OF_REQUESTS:
            _put(nested, "http.version", str(value).removeprefix("HTTP/"))
        elif name in names:
            _put(nested, names[name], value)
        else:
            own[name] = value
    return _json_line({**line, **nested, **({"drainproxy": own} if own else {})})


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    for name in above:
        tree = tree.setdefault(name, {})
    tree[last] = value


def _gcp_line(project: str | None, fields: dict[str, Any]) -> str:
    """Return a line with the fields that Google's agent takes out (Cloud Logging: structured logging)."""
    stamp, level, event = fields.pop("time"), fields.pop("level"), fields.pop("event")
    line: dict[str, Any] = {"severity": level.upper(), "time": stamp, "message": _message(event, fields)}
    line["event"] = event
    if "method" in fields:
        request = {theirs: fields.pop(ours) for ours, theirs in _GCP_NAMES.items() if ours in fields}
        request |= {theirs: str(fields.pop(ours)) for ours, theirs in _GCP_SIZES.items() if ours in fields}
        if isinstance(took_s := fields.pop("duration_s", None), (int, float)):
            request["latency"] = f"{took_s:.6f}s"
        line["httpRequest"] = request
    if (trace := fields.get("trace_id")) is not None and project is not None:
        line["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace}"
    if (span := fields.get("span_id")) is not None:
        line["logging.googleapis.com/spanId"] = span
    return _json_line({**line, **fields})


def _message(event: str, fields: dict[str, Any]) -> str:
    """Say a line to a person who reads it in a console: the event, and its plain fields."""
    plain_ones = [
        f"{name}={_text_value(value)}"
        for name, value in fields.items()
        if isinstance(value, (str, int, float)) and name not in {"trace_id", "span_id"}
    ]
    return " ".join([event, *plain_ones])[:MAX_MESSAGE_CHARS]


def _text_line(fields: dict[str, Any]) -> str:
    clock = str(fields.pop("time"))[11:23]
    level = fields.pop("level")
    event = fields.pop("event")
    mark = "" if level == "info" else f" {level.upper()}"
    parts = [f"{key}={_text_value(value)}" for key, value in fields.items() if value is not None]
    return " ".join([f"{clock}{mark} {event}", *parts])


def _text_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, str) and value.isascii() and value.isprintable() and " " not in value:
        return value
    return json.dumps(value, default=str)


class _ThroughLog(logging.Handler):
    """Carries the lines of libraries that use the standard logging module."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:
            text = str(record.msg)
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {record.exc_info[1]!r}"
        self._log.condition(
            "library", record.name, record.levelname.lower(), logger=record.name, message=text
        )


def adopt_libraries(log: Log) -> None:
    """Send what libraries log, warnings and up, through `log`."""
    logging.basicConfig(level=logging.WARNING, handlers=[_ThroughLog(log)], force=True)


def plain(text: object) -> str:
    """Return text that a terminal only shows: what others have written may hold what it would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))
