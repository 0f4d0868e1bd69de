"""The command line: verbs and exit codes, nothing else.

The only reader of os.environ beside hook.py, and the only import of uvloop. Each verb imports what it
needs when it is chosen, so that `status` does not pay for `run`. Called by __main__.py.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from drainproxy import __version__, config, hook, settings
from drainproxy.errors import ConfigError, ListenError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drainproxy.addresses import ListenAddress

EXIT_CONFIG = 64
EXIT_INTERNAL = 70
EXIT_PORT_IN_USE = 71

STATUS_TIMEOUT_S = 5.0
MAX_STATUS_BYTES = 4 * 1024 * 1024

DESCRIPTION = "An HTTP reverse proxy that makes a pod's end invisible to its clients."

EPILOG = """\
examples:
  drainproxy run --listen :28080 --upstream http://127.0.0.1:8080
  drainproxy config --check --config drainproxy.yaml
  drainproxy drain --prestop            in the sidecar's preStop hook
  drainproxy status --watch             while a pod goes away

exit codes:
  0   done; also a drain that ended work at its deadline
  64  the configuration or the command line is wrong
  69  no proxy answers
  70  an internal failure
  71  a listening port is in use
"""

SETTINGS_EPILOG = """\
Each setting is also DRAINPROXY_<NAME> in the environment and <name> in the YAML file (--config).
A flag wins over the environment, that over the file. Durations need a unit: 500ms, 30s, 2m, 1h.
"""

ROOM_TITLES = {"proxy": "traffic", "lifecycle": "draining", "admin": "admin", "process": "process"}


class _Parser(argparse.ArgumentParser):
    """argparse with this program's exit code and one-line errors."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_CONFIG, f"{self.prog}: {message}; try {self.prog} --help\n")


def main(arguments: Sequence[str]) -> int:
    """Run one verb; return the exit code."""
    parser = _parser(arguments)
    if not arguments:
        parser.print_help()
        return EXIT_CONFIG
    options = parser.parse_args(arguments)
    verb: Callable[[argparse.Namespace], int] = options.do
    try:
        code = verb(options)
        sys.stdout.flush()
    except ConfigError as error:
        for problem in error.problems:
            _complain(problem)
        return EXIT_CONFIG
    except BrokenPipeError:
        # `drainproxy config | head`: what is left in the buffer has no reader either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _complain(problem: str) -> None:
    print(f"drainproxy: {problem}", file=sys.stderr)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="drainproxy",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"drainproxy {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def verb(name: str, do: Callable[[argparse.Namespace], int], help_: str, **more: Any) -> _Parser:  # noqa: ANN401
        made = verbs.add_parser(name, help=help_, description=_sentence(help_), allow_abbrev=False, **more)
        made.set_defaults(do=do)
        return made

    chosen = arguments[0] if arguments else ""
    wordy = {
        "usage": "%(prog)s [--SETTING VALUE ...]",
        "epilog": SETTINGS_EPILOG,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
    for name, do, help_ in (
        ("run", _run, "forward requests until the pod ends, then drain"),
        ("config", _config, "show the settings in effect and how the grace period is divided"),
    ):
        made = verb(name, do, help_, **wordy)
        if name == chosen:
            _add_settings(made, explain="-h" in arguments or "--help" in arguments)
        if name == "config":
            made.add_argument("--check", action="store_true", help="only name problems; exit 64 if any")
            made.add_argument("--json", action="store_true", help="for machines")
    _add_hooks(verb)
    status = verb("status", _status, "show what the proxy is doing, and what it waits for")
    status.add_argument("--watch", action="store_true", help="keep showing it until the proxy ends")
    status.add_argument("--json", action="store_true", help="for machines")
    status.add_argument("--admin", metavar="HOST:PORT", help="default: DRAINPROXY_ADMIN, or :29900")
    for name, help_ in (
        ("demo", "see on loopback what a rollout loses, with drainproxy and without"),
        ("probe", "hit a URL at a steady rate while a command runs; name every lost request"),
    ):
        made = verb(name, _proof, help_)
        if name == chosen:
            made.set_defaults(module=(module := _proof_module(name)))
            module.add_arguments(made)
    verb("version", _version, "show what runs here")
    return parser


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _add_settings(parser: argparse.ArgumentParser, *, explain: bool) -> None:
    """Give the parser a flag for each setting. `explain`: its help is going to be read."""
    said = settings.documentation() if explain else {}
    groups = {room: parser.add_argument_group(title) for room, title in ROOM_TITLES.items()}
    for setting in settings.table():
        default = setting.show(setting.default)
        text = said.get(setting.name, "")
        text = f"{text} [{default}]" if default else text
        groups[setting.room].add_argument(
            setting.flag,
            dest=f"setting_{setting.name}",
            # A list's flag may be repeated; a switch needs no value.
            action="append" if setting.many else "store",
            nargs="?" if setting.default is False else None,
            const="true" if setting.default is False else None,
            metavar=setting.kind.metavar,
            help=text.replace("%", "%%"),
        )


def _add_hooks(verb: Callable[..., _Parser]) -> None:
    for name, help_ in (
        ("drain", "begin to drain, as SIGTERM does, and stay until SIGTERM comes"),
        ("undrain", "take a drain back, as long as the cluster is still being told"),
        ("wait", "block until the proxy has drained"),
    ):
        made = verb(name, _hook, help_)
        made.set_defaults(verb=name, prestop=False, wait=False)
        made.add_argument("--control-socket", metavar="FILE", default="", help="the proxy's control socket")
        if name == "drain":
            made.add_argument("--prestop", action="store_true", help="the pod is ending: there is no undrain")
            made.add_argument("--wait", action="store_true", help="block until drained")


def _load(options: argparse.Namespace) -> config.Config:
    flags = {
        name.removeprefix("setting_"): text
        for name, text in vars(options).items()
        if name.startswith("setting_")
    }
    return config.load(os.environ, flags)


def _run(options: argparse.Namespace) -> int:
    chosen = _load(options)
    from drainproxy import app  # noqa: PLC0415 - aiohttp and the rooms: a quarter of a second

    factory = _loop_factory(chosen.process.loop)
    code = EXIT_INTERNAL
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            code = runner.run(app.run(chosen))
    except* ListenError as group:
        for error in _flat(group):
            _complain(str(error))
        code = EXIT_PORT_IN_USE
    except* Exception as group:
        traceback.print_exception(group)
        _complain(f"internal failure: {_flat(group)[0]!r}")
        code = EXIT_INTERNAL
    return code


def _flat(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    nested = [_flat(each) if isinstance(each, BaseExceptionGroup) else [each] for each in group.exceptions]
    return [error for errors in nested for error in errors]


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name != "asyncio":
        try:
            import uvloop  # noqa: PLC0415 - not on every platform
        except ImportError:
            if name == "uvloop":
                raise ConfigError(["loop: uvloop is not installed; write auto or asyncio"]) from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


def _config(options: argparse.Namespace) -> int:
    from drainproxy import explain  # noqa: PLC0415 - rich

    chosen = _load(options)
    if options.check:
        for warning in chosen.warnings:
            _complain(warning)
        if not chosen.warnings:
            print("the configuration is good")
        return EXIT_CONFIG if chosen.warnings else 0
    if options.json:
        print(explain.as_json(chosen))
    else:
        explain.show(chosen)
    return 0


def _hook(options: argparse.Namespace) -> int:
    return hook.run(options.verb, options.control_socket, options.prestop, options.wait)


def _status(options: argparse.Namespace) -> int:
    given = options.admin
    if given is not None:
        given = given.removeprefix("http://").removesuffix("/status").removesuffix("/")
    address = config.load(os.environ, {"admin": given}).admin.admin
    try:
        status = _fetch_status(address)
        if options.json:
            print(json.dumps(status, indent=2))
            return 0
        from rich.console import Console  # noqa: PLC0415 - for people only

        from drainproxy.admin import view  # noqa: PLC0415

        if options.watch:
            return view.watch(lambda: _fetch_status(address))
        Console().print(view.render(status))
    except OSError as error:
        _complain(f"no status from {address}: {error}")
        return hook.EXIT_UNREACHABLE
    return 0


def _fetch_status(address: ListenAddress) -> dict[str, Any]:
    """Return the proxy's /status; raise OSError where there is none. Never goes through an HTTP proxy."""
    import http.client  # noqa: PLC0415 - for this verb only

    every = {None: "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared
    host = every.get(address.host) or str(address.host)
    peer = http.client.HTTPConnection(host, address.port, timeout=STATUS_TIMEOUT_S)
    try:
        peer.request("GET", "/status")
        answer = peer.getresponse()
        body = answer.read(MAX_STATUS_BYTES)
        if answer.status != 200:
            raise OSError(f"it answered {answer.status} {answer.reason}")
        status: dict[str, Any] = json.loads(body)
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"its answer makes no sense: {error!r}") from None
    finally:
        peer.close()
    return status


def _proof_module(name: str) -> Any:  # noqa: ANN401 - a module with add_arguments and run
    return importlib.import_module(f"drainproxy.proof.{name}")


def _proof(options: argparse.Namespace) -> int:
    code: int = options.module.run(options)
    return code


def _version(_options: argparse.Namespace) -> int:
    import platform  # noqa: PLC0415 - for this verb only
    from importlib import metadata  # noqa: PLC0415

    print(f"drainproxy {__version__} on Python {platform.python_version()}")
    for package in ("aiohttp", "httptools", "uvloop"):
        try:
            print(f"  {package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            print(f"  {package} is not installed")
    return 0
