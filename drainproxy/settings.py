"""The table of settings, derived from the rooms' dataclasses: there is no second list.

A field is a setting, named the same in a YAML file, `DRAINPROXY_<NAME>` in the environment and `--<name>`
on the command line; its type is its kind (kinds.py), the string under it is its manual.
Read by config.py, by cli/arguments.py for its flags, and by the generator of docs/.
"""

from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from itertools import pairwise
from typing import Any, Literal, get_type_hints

from drainproxy.admin.settings import AdminSettings
from drainproxy.kinds import Endpoint, File, Kind, Ratio, Text, meaning
from drainproxy.kube.settings import KubeSettings
from drainproxy.lifecycle.settings import LifecycleSettings
from drainproxy.log import Format, Level
from drainproxy.proxy.settings import ProxySettings
from drainproxy.proxy.transport_settings import TransportSettings

PREFIX = "DRAINPROXY_"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """What concerns the process as a whole."""

    config: File | None = None
    """YAML file with settings, by their names; lists may be YAML lists."""

    log_format: Format = "auto"
    """Log lines as JSON, as text, in the names of Elastic Common Schema (ecs), or in those that the agent of
    Google Cloud takes out (gcp); auto is text on a terminal and JSON elsewhere."""

    log_level: Level = "info"
    """Lines below it are not written, but for a drain's report, which always is."""

    gcp_project: Text | None = None
    """The Google Cloud project whose traces the lines of `log_format` gcp lead to."""

    access_log: Literal["off", "errors", "all"] = "errors"
    """What gets a log line when it has ended: no request, stream or tunnel, those that failed, or all."""

    trace_endpoint: Endpoint | None = None
    """Send a span of each traced HTTP/1 request there, over OTLP/HTTP, and pass the caller's trace on to the
    application: http://collector:4318/v1/traces. Needs `drainproxy[tracing]`."""

    trace_ratio: Ratio = 0.1
    """Which part of the traces that begin here is sent, from 0 to 1. Whether a caller's trace is sent its
    own traceparent says."""

    metrics_push: Endpoint | None = None
    """At the end of a drain, send what became of it to a collector, over OTLP/HTTP, for at most half of
    `reserve`: http://collector:4318/v1/metrics. Needs `drainproxy[tracing]`."""

    loop: Literal["auto", "uvloop", "asyncio"] = "auto"
    """Event loop; auto is uvloop where it is installed."""


ROOMS: dict[str, type] = {
    "proxy": ProxySettings,
    "edge": TransportSettings,
    "lifecycle": LifecycleSettings,
    "admin": AdminSettings,
    "kube": KubeSettings,
    "process": ProcessSettings,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    room: str
    default: Any
    kind: Kind
    many: bool
    may_be_off: bool

    @property
    def env(self) -> str:
        """Its name in the environment."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    def show(self, value: Any) -> str:
        """Write a value the way it is read."""
        if value is None:
            return "off" if self.may_be_off else ""
        if self.many:
            return ",".join(map(self.kind.show, value))
        return self.kind.show(value)


@cache
def table() -> tuple[Setting, ...]:
    """Return every setting, in the order of rooms and fields."""
    return tuple(setting for room, of in ROOMS.items() for setting in rows(room, of))


def rows(room: str, of: Any) -> Iterable[Setting]:
    """Yield what each field of a settings dataclass means."""
    hints = get_type_hints(of, include_extras=True)
    for each in fields(of):
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        yield Setting(each.name, room, default, *meaning(hints[each.name]))


def documentation(*classes: type) -> dict[str, str]:
    """Return what the string under each field says, by setting, on one line. Reads the classes' source.

    Without `classes`: of every room.
    """
    import ast  # noqa: PLC0415 - only help and the docs ask
    import inspect  # noqa: PLC0415 - only help and the docs ask

    said = {}
    for of in classes or ROOMS.values():
        body = ast.parse(inspect.getsource(of)).body[0]
        assert isinstance(body, ast.ClassDef)
        for line, after in pairwise(body.body):
            if isinstance(line, ast.AnnAssign) and isinstance(after, ast.Expr):
                text = ast.literal_eval(after.value)
                said[ast.unparse(line.target)] = " ".join(text.split())
    return said
