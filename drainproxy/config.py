"""Three sources of settings, one Config or every problem at once.

A flag wins over the environment, that over the YAML file, that over the default. What makes no sense is
an error; what a running pod can live with (an unknown name, a grace period too short) is a warning.
Never reads os.environ itself; cli/main.py does.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from drainproxy import flavour, routefile, values
from drainproxy.addresses import POD, ListenAddress
from drainproxy.admin.settings import AdminSettings
from drainproxy.errors import ConfigError
from drainproxy.kube.settings import KubeSettings
from drainproxy.lifecycle.budget import Budget, Plan
from drainproxy.lifecycle.propagation import PRESETS, Rules
from drainproxy.lifecycle.settings import LifecycleSettings
from drainproxy.proxy import transport_settings
from drainproxy.proxy.limits.routes import Route, default_timeouts
from drainproxy.proxy.settings import ProxySettings
from drainproxy.proxy.transport_settings import TransportSettings
from drainproxy.settings import PREFIX, ROOMS, ProcessSettings, Setting, table

SERVICE_LINK = re.compile(r"DRAINPROXY_(.+_)?(SERVICE_.*|PORT.*)", re.DOTALL)
"""What Kubernetes puts into every pod of a namespace with a Service called drainproxy or drainproxy-x
(Kubernetes: Accessing the Service, environment variables). No setting has such a name."""

INSIDE = "KUBERNETES_SERVICE_HOST"
"""Set in every pod."""

MAX_FILE_BYTES = 1024 * 1024
MAX_SHOWN_CHARS = 60
"""How much of a bad value an error repeats."""

DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a run needs, checked."""

    proxy: ProxySettings
    edge: TransportSettings
    lifecycle: LifecycleSettings
    admin: AdminSettings
    kube: KubeSettings
    process: ProcessSettings
    rules: Rules
    routes: tuple[Route, ...] = ()
    warnings: tuple[str, ...] = ()
    """What does not stop a run and fails `config --check`: unknown names, sums that do not fit."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Setting -> where its value came from; what is missing has its default."""

    def value(self, setting: Setting) -> Any:
        """Return what a setting was set to."""
        return getattr(getattr(self, setting.room), setting.name)

    def budget(self) -> Budget:
        """Divide the grace period as the lifecycle will."""
        return Plan(self.lifecycle, self.rules).budget


@dataclass(frozen=True, slots=True)
class _Given:
    """What one source says of a setting."""

    source: str
    texts: list[str]


@dataclass(slots=True)
class _Findings:
    """Written while one Config is being made, by the functions of this module."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)

    def wrong(self, name: str, source: str, text: str, why: str) -> None:
        """Note that a setting cannot be used."""
        self.failed.add(name)
        self.problems.append(f"{name} ({source}): {quote(text)} {why}")


def quote(text: str) -> str:
    """Return `text` as an error may show it: bounded, on one line, without control characters or secrets."""
    text = values.without_secrets(text)
    if len(text) > MAX_SHOWN_CHARS:
        return json.dumps(text[:MAX_SHOWN_CHARS]) + "..."
    return json.dumps(text)


def load(
    env: Mapping[str, str], flags: Mapping[str, str | list[str] | None] | None = None, *, files: bool = True
) -> Config:
    """Return the Config these sources make, or raise ConfigError with everything that is wrong.

    `flags` maps settings' names to what was written, None where nothing was. Without `files`, routes and
    certificates are not looked at: for who only wants to know where a running proxy listens.
    """
    found = _Findings()
    above = _from_env(env, found) | _from_flags(flags or {})
    given = _from_file(above["config"], found) | above if "config" in above else above
    read = {each.name: _read(each, given[each.name], found) for each in table() if each.name in given}
    usable = read.keys() - found.failed
    rooms: dict[str, Any] = {
        room: of(**{each.name: read[each.name] for each in fields(of) if each.name in usable})
        for room, of in ROOMS.items()
    }
    lifecycle: LifecycleSettings = rooms["lifecycle"]
    if lifecycle.propagation is None:
        preset = "cluster" if INSIDE in env else "none"
        rooms["lifecycle"] = lifecycle = replace(lifecycle, propagation=preset)
    config = Config(
        **rooms,
        rules=_rules(lifecycle),
        routes=_routes(rooms["proxy"], given, found) if files else (),
        sources={name: each.source for name, each in given.items()},
    )
    _check_pairs(config, found)
    _check_rules(config, found)
    if files:
        _check_edge(config, found)
    if found.problems:
        raise ConfigError(found.problems)
    plan = Plan(config.lifecycle, config.rules)
    return replace(config, warnings=(*found.warnings, *plan.problems))


def _from_flags(flags: Mapping[str, str | list[str] | None]) -> dict[str, _Given]:
    return {
        setting.name: _Given(f"flag {setting.flag}", [text] if isinstance(text, str) else text)
        for setting in table()
        if (text := flags.get(setting.name)) is not None
    }


def _from_env(env: Mapping[str, str], found: _Findings) -> dict[str, _Given]:
    known = {setting.env: setting for setting in table()}
    given = {}
    for name, text in env.items():
        if not name.startswith(PREFIX):
            continue
        if name in known:
            # Empty is how a pod spec's template writes "not set".
            if text:
                given[known[name].name] = _Given(f"env {name}", [text])
        elif name != flavour.PURE and not SERVICE_LINK.fullmatch(name):
            found.warnings.append(_unknown(name, "the environment", PREFIX))
    return given


def _from_file(path: _Given, found: _Findings) -> dict[str, _Given]:
    name = path.texts[-1]
    given: dict[str, _Given] = {}
    for key, value in _lines("config", path.source, name, found):
        source = f"file {name} line {key.start_mark.line + 1}"
        nodes = value.value if value.id == "sequence" else [value]
        if any(node.id != "scalar" for node in (key, *nodes)):
            found.problems.append(f"{source} is nested; write `name: value` or `name: [value, value]`")
            continue
        _take_line(key.value, _Given(source, [node.value for node in nodes]), given, found)
    return given


def _lines(setting: str, source: str, name: str, found: _Findings) -> list[tuple[Any, Any]]:
    """Return what the file that a setting names holds, or note why not."""
    try:
        return _compose(name)
    except (OSError, ValueError) as error:
        why = " ".join((getattr(error, "strerror", None) or str(error)).split())
        found.wrong(setting, source, name, f"cannot be used: {why[:200]}")
        return []


def _compose(name: str) -> list[tuple[Any, Any]]:
    """Return the file's lines as pairs of YAML nodes; raise OSError or ValueError."""
    import yaml  # noqa: PLC0415 - most pods have no file

    with open(name, "rb") as file:  # noqa: PTH123 - a name that pathlib would not keep as it is
        text = file.read(MAX_FILE_BYTES + 1)
    if len(text) > MAX_FILE_BYTES:
        raise ValueError("it is larger than 1MiB")
    try:
        # Nodes, not values: every scalar stays the text that was written, also `off` and 0644.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ValueError(f"it is not YAML: line {line}: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"it is not YAML: {error}") from None
    if root is None or root.tag == "tag:yaml.org,2002:null":
        return []
    if not isinstance(root, yaml.MappingNode):
        raise ValueError("its top is not made of `name: value` lines")  # noqa: TRY004 - of the file
    return list(root.value)


def _routes(settings: ProxySettings, given: Mapping[str, _Given], found: _Findings) -> tuple[Route, ...]:
    """Return what the routes file says, or note why not."""
    if settings.routes is None:
        return ()
    lines = _lines("routes", given["routes"].source, settings.routes, found)
    routes, problems = routefile.read(lines, default_timeouts(settings))
    found.problems += [f"routes file {quote(settings.routes)} {problem}" for problem in problems]
    return routes


def _take_line(name: str, line: _Given, given: dict[str, _Given], found: _Findings) -> None:
    if name == "config" or all(name != setting.name for setting in table()):
        found.warnings.append(_unknown(name, line.source))
    elif name in given:
        found.wrong(name, line.source, ",".join(line.texts), "comes second; write it once")
    else:
        given[name] = line


def _unknown(name: str, where: str, prefix: str = "") -> str:
    import difflib  # noqa: PLC0415 - needed for a typo only

    names = [setting.name for setting in table()]
    close = difflib.get_close_matches(name.removeprefix(prefix).lower(), names, 1)
    right = prefix + close[0].upper() if close and prefix else "".join(close)
    return f"{quote(name)} in {where} is not a setting" + (f"; did you mean {right}?" if right else "")


def _read(setting: Setting, given: _Given, found: _Findings) -> Any:
    texts = given.texts
    if setting.many:
        texts = [part.strip() for text in texts for part in text.split(",")]
        if not texts and setting.default and not isinstance(setting.default[0], str):
            found.wrong(setting.name, given.source, "", f"is empty; write {setting.kind.allowed}")
    elif len(texts) != 1:
        found.wrong(setting.name, given.source, ",".join(texts), "has several values; write one")
        return None
    parsed = []
    for text in texts:
        if text == "off" and setting.may_be_off:
            return None
        try:
            parsed.append(setting.kind.read(text))
        except ValueError as error:
            off = ", or off" if setting.may_be_off else ""
            found.wrong(setting.name, given.source, text, f"{error}; write {setting.kind.allowed}{off}")
    if setting.many:
        return tuple(parsed)
    return parsed[0] if parsed else None


def _rules(lifecycle: LifecycleSettings) -> Rules:
    preset, _ = PRESETS[lifecycle.propagation or "none"]
    own = {part: getattr(lifecycle, f"propagation_{part}") for part in ("min", "margin", "quiet", "max")}
    chosen = {f"{part}_s": seconds for part, seconds in own.items() if seconds is not None}
    return replace(preset, sparse_min_s=lifecycle.sparse_min, **chosen)


def _check_pairs(config: Config, found: _Findings) -> None:
    listen, upstream = config.proxy.listen, config.proxy.upstream
    if found.failed & {"listen", "upstream", "admin"}:
        return
    if len(listen) != len(upstream):
        where = ", ".join(config.sources.get(name, DEFAULT) for name in ("listen", "upstream"))
        found.problems.append(
            f"listen has {len(listen)} and upstream {len(upstream)} addresses ({where});"
            " write one upstream for each listen"
        )
    if any(address.host == POD for address in listen) and not config.kube.pod_ips:
        source = config.sources.get("listen", DEFAULT)
        found.problems.append(f"listen ({source}): pod stands for the addresses in pod_ips; write those")
    for name, why in (*_warmup(config), *_handoff(config)):
        source = config.sources.get(name, DEFAULT)
        (setting,) = (each for each in table() if each.name == name)
        found.wrong(name, source, setting.show(config.value(setting)), why)
    own = {address.port for address in (*listen, config.admin.admin) if _reached_by_loopback(address)}
    for address in upstream:
        if address.host in {"localhost", "127.0.0.1", "::1"} and address.port in own:
            source = config.sources.get("upstream", DEFAULT)
            found.wrong("upstream", source, str(address), "is drainproxy itself; write the application")


def _warmup(config: Config) -> Iterator[tuple[str, str]]:
    proxy = config.proxy
    if proxy.warmup and all(address.tcp for address in proxy.upstream):
        yield "warmup", "asks nobody: a tcp:// upstream has no paths; leave it out"
    if proxy.warmup_method == "grpc" and values.is_status(proxy.warmup_until):
        yield "warmup_until", "is no status that gRPC is asked for; write a duration"


def _handoff(config: Config) -> Iterator[tuple[str, str]]:
    if config.proxy.handoff == "off":
        return
    if all(address.tcp for address in config.proxy.upstream):
        yield "handoff", "hands nothing on: what a tcp:// upstream is sent is not read; leave it out"
    if config.kube.rbac == "none":
        yield "handoff", "needs to hear of siblings; write rbac: slices"
    if config.edge.proxy_protocol or any(address.tls for address in config.proxy.listen):
        yield "handoff", "cannot be done where callers begin with TLS or a PROXY header; leave it out"
    if config.lifecycle.propagation == "mesh":
        yield "handoff", "is the mesh's to do: it chooses where this pod's connections go; leave it out"


def _check_edge(config: Config, found: _Findings) -> None:
    if found.failed & {"listen", "upstream", *(each.name for each in fields(config.edge))}:
        return
    for name, why in transport_settings.problems(config.edge, config.proxy):
        (setting,) = (each for each in table() if each.name == name)
        text = setting.show(config.value(setting))
        found.wrong(name, config.sources.get(name, DEFAULT), text, why)


def _reached_by_loopback(address: ListenAddress) -> bool:
    return address.host in {None, "0.0.0.0", "::", "localhost", "127.0.0.1", "::1"}  # noqa: S104 - compared


def _check_rules(config: Config, found: _Findings) -> None:
    names = ("propagation_min", "propagation_max")
    rules = config.rules
    if found.failed & {"propagation", *names} or rules.min_s <= rules.max_s:
        return
    preset = f"preset {config.lifecycle.propagation}"
    low, high = (config.sources.get(name, preset) for name in names)
    found.problems.append(
        f"propagation_min {values.show_duration(rules.min_s)} ({low}) is above"
        f" propagation_max {values.show_duration(rules.max_s)} ({high});"
        " write propagation_min <= propagation_max"
    )
