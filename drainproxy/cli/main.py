"""The command line: what each verb does, and exit codes.

The only reader of os.environ beside hook.py. Each verb imports what it needs when it is chosen, so that
`status` does not pay for `run`. Called by __main__.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import selectors
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drainproxy import __version__, config, flavour, hook
from drainproxy.errors import CertificateError, ConfigError, InjectionRefused, ListenError
from drainproxy.log import plain
from drainproxy.tasks import flat

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from drainproxy.addresses import ListenAddress
    from drainproxy.injector.patch import InjectorDefaults
    from drainproxy.kube.settings import KubeSettings

BARE = ["run"]
"""How a pod's container is started: its settings are in its environment."""

CREDENTIALS = "DRAINPROXY_KUBERNETES_CREDENTIALS"
"""The setting `kubernetes_credentials`, for who runs a verb for people inside a pod."""

EXIT_CONFIG = 64
EXIT_INTERNAL = 70
EXIT_PORT_IN_USE = 71

STATUS_TIMEOUT_S = 5.0
SINCE_S = 3600.0
"""For so long the API server keeps Events unless told otherwise (kube-apiserver: --event-ttl)."""
MAX_STATUS_BYTES = 4 * 1024 * 1024


def main(arguments: Sequence[str]) -> int:
    """Run one verb; return the exit code."""
    try:
        code = _serve({}) if list(arguments) == BARE else _choose(arguments)
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


def _choose(words: Sequence[str]) -> int:
    from drainproxy.cli import arguments  # noqa: PLC0415 - argparse, which a pod has no use for

    options = arguments.parse(words)
    return _VERBS[options.verb](options)


def _given(options: argparse.Namespace) -> Mapping[str, Any]:
    from drainproxy.cli.arguments import given_settings  # noqa: PLC0415 - as above

    return given_settings(options)


def _complain(problem: str) -> None:
    print(f"drainproxy: {plain(problem)}", file=sys.stderr)


def _run(options: argparse.Namespace) -> int:
    return _serve(_given(options))


def _serve(given: Mapping[str, Any]) -> int:
    chosen = config.load(os.environ, given)
    from drainproxy import app  # noqa: PLC0415 - all the rooms: a tenth of a second
    from drainproxy.proxy.wire import allocator  # noqa: PLC0415 - one of them

    missing = []
    if chosen.proxy.h2_inspect and importlib.util.find_spec("hpack") is None:
        missing.append("h2_inspect: hpack is not installed; pip install '.[http2]'")
    if importlib.util.find_spec("opentelemetry") is None:
        asked = [name for name in ("trace_endpoint", "metrics_push") if getattr(chosen.process, name)]
        missing += [f"{name}: opentelemetry is not installed; pip install '.[tracing]'" for name in asked]
    if missing:
        raise ConfigError(missing)
    factory = _loop_factory(chosen.process.loop)
    if not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        allocator.keep()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            code = runner.run(app.run(chosen))
    except* ListenError as group:
        for error in flat(group):
            _complain(str(error))
        code = EXIT_PORT_IN_USE
    except* Exception as group:
        traceback.print_exception(group)
        _complain(f"internal failure: {flat(group)[0]!r}")
        code = EXIT_INTERNAL
    return code


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if name != "asyncio":
        try:
            from drainproxy.eventloop import Loop  # noqa: PLC0415 - uvloop is not on every platform
        except ImportError:
            if name == "uvloop":
                raise ConfigError(["loop: uvloop is not installed; write auto or asyncio"]) from None
        else:
            return Loop
    if hasattr(selectors, "EpollSelector"):
        from drainproxy.proxy.wire.selector import new_event_loop  # noqa: PLC0415 - epoll is Linux's

        return new_event_loop
    return asyncio.new_event_loop


def _config(options: argparse.Namespace) -> int:
    from drainproxy.cli import explain  # noqa: PLC0415 - rich

    # Whoever checks does it for a pod, wherever that is done.
    assumed = {config.INSIDE: ""} if options.check else {}
    chosen = config.load({**assumed, **os.environ}, _given(options))
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


def _inject(options: argparse.Namespace) -> int:
    from drainproxy.cli import inject_command  # noqa: PLC0415 - rich

    return inject_command.run(
        options.filename,
        options.stray,
        _injector_defaults(options),
        every=options.all,
        check=options.check,
        services=options.services,
    )


def _webhook(options: argparse.Namespace) -> int:
    from drainproxy.certificates import Files  # noqa: PLC0415 - for this verb only
    from drainproxy.injector import server  # noqa: PLC0415 - aiohttp
    from drainproxy.values import listen_address  # noqa: PLC0415 - for this verb only

    try:
        listen, admin = listen_address(options.listen), listen_address(options.admin)
    except ValueError as error:
        raise ConfigError([f"--listen, --admin: one {error}; write HOST:PORT or :PORT"]) from None
    webhook = server.run(
        listen=listen,
        admin=admin,
        files=Files(certificate=options.cert, key=options.key),
        defaults=_injector_defaults(options),
        log_format=options.log_format,
        credentials=options.credentials,
    )
    try:
        with asyncio.Runner(loop_factory=_loop_factory("auto")) as runner:
            return runner.run(webhook)
    except CertificateError as error:
        raise ConfigError([str(error)]) from None
    except ListenError as error:
        _complain(str(error))
        return EXIT_PORT_IN_USE


def _injector_defaults(options: argparse.Namespace) -> InjectorDefaults:
    from drainproxy.injector.annotations import read  # noqa: PLC0415 - for these verbs only
    from drainproxy.injector.patch import InjectorDefaults  # noqa: PLC0415 - for these verbs only

    defaults = InjectorDefaults(annotations=dict(options.set))
    try:
        read({}, defaults.annotations)
    except InjectionRefused as refusal:
        raise ConfigError([f"--set: {problem}" for problem in refusal.problems]) from None
    images = {**defaults.images, **({"": options.image} if options.image else {}), **dict(options.revision)}
    return InjectorDefaults(images, defaults.annotations, options.kubernetes, options.redirect_image)


def _redirect(options: argparse.Namespace) -> int:
    from drainproxy.cli import redirect_command  # noqa: PLC0415 - for this verb only

    return redirect_command.run(options.pairs)


def _hook(options: argparse.Namespace) -> int:
    return hook.run(options.verb, options.control_socket, options.prestop, options.wait)


def _status(options: argparse.Namespace) -> int:
    given = options.admin
    if given is not None:
        given = given.removeprefix("http://").removesuffix("/status").removesuffix("/")
    address = config.load(os.environ, {"admin": given}, files=False).admin.admin
    try:
        if options.watch and not options.json:
            from drainproxy.admin import view  # noqa: PLC0415 - rich

            return view.watch(lambda: _fetch_status(address), str(address))
        status = _fetch_status(address)
        if options.json:
            print(_indented(status))
            return 0
        from rich.console import Console  # noqa: PLC0415 - for people only

        from drainproxy.admin import status_view  # noqa: PLC0415 - rich

        Console().print(status_view.render(status))
    except OSError as error:
        _complain(f"no status from {address}: {error.strerror or error}")
        return hook.EXIT_UNREACHABLE
    return 0


def _indented(status: dict[str, Any]) -> str:
    """Return it as JSON for eyes too: a series of numbers on one line."""
    import re  # noqa: PLC0415 - for this verb only

    text = json.dumps(status, indent=2)
    return re.sub(r"\[\n([\d.,\s]+?)\n *\]", lambda found: f"[{' '.join(found[1].split())}]", text)


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
        status = json.loads(body)
        if not isinstance(status, dict) or "phase" not in status:
            raise OSError("its answer is no status")
    except ConnectionError:
        # Of which http.client's RemoteDisconnected is one: a port-forward whose pod does not listen yet.
        raise
    except (http.client.HTTPException, ValueError, RecursionError) as error:
        raise OSError(f"its answer makes no sense: {error!r}") from None
    finally:
        peer.close()
    return status


def _proof(options: argparse.Namespace) -> int:
    code: int = options.module.run(options)
    return code


def _check(options: argparse.Namespace) -> int:
    from drainproxy.cli import check_command  # noqa: PLC0415 - for this verb only

    way, namespace = _way_to_the_cluster(options)
    return check_command.run(options.workload, namespace, way, as_json=options.json)


def _rollout(options: argparse.Namespace) -> int:
    from drainproxy.cli import rollout_command  # noqa: PLC0415 - for this verb only

    way, namespace = _way_to_the_cluster(options)
    wanted = rollout_command.Wanted(
        target=options.workload,
        namespace=namespace,
        watch=options.watch,
        since_s=options.since if options.since is not None else 0.0 if options.watch else SINCE_S,
        timeout_s=options.timeout,
        as_json=options.output == "json",
    )
    return rollout_command.run(wanted, way)


def _advise(options: argparse.Namespace) -> int:
    from drainproxy.cli import advise_command  # noqa: PLC0415 - for this verb only

    return advise_command.run(
        advise_command.Wanted(
            files=tuple(options.files),
            url=options.prometheus,
            within=options.range,
            matchers=options.match,
            namespace=options.namespace or "",
            token_file=options.token_file,
            authority=options.ca,
            share=options.share,
            as_json=options.output == "json",
        )
    )


def _way_to_the_cluster(options: argparse.Namespace) -> tuple[KubeSettings, str]:
    """Return the way that kubectl would take, and the namespace that it would mean."""
    from drainproxy.kube import kubeconfig  # noqa: PLC0415 - for these verbs only

    usual = Path.home() / ".kube" / "config"
    file = options.kubeconfig or os.environ.get("KUBECONFIG") or (str(usual) if usual.exists() else None)
    if options.context and not file:
        raise ConfigError(["--context names a context of a kubeconfig, and there is none"])
    # Inside a pod, what its ServiceAccount is given.
    given = os.environ.get(CREDENTIALS) or kubeconfig.PersonalSettings().kubernetes_credentials
    way = kubeconfig.PersonalSettings(kubeconfig=file, context=options.context, kubernetes_credentials=given)
    namespace = options.namespace
    if not namespace and file:
        namespace = kubeconfig.namespace(file, options.context)
    elif not namespace:
        with contextlib.suppress(OSError, ValueError):
            namespace = (Path(way.kubernetes_credentials) / "namespace").read_text("utf-8").strip()
    return way, namespace or "default"


def _version(_options: argparse.Namespace) -> int:
    import platform  # noqa: PLC0415 - for this verb only
    from importlib import metadata  # noqa: PLC0415 - for this verb only

    print(f"drainproxy {__version__}, {flavour.current()}, on Python {platform.python_version()}")
    for package in ("aiohttp", "h11", "httptools", "kubernetes-asyncio", "uvloop"):
        try:
            print(f"  {package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            print(f"  {package} is not installed")
    return 0


_VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "config": _config,
    "drain": _hook,
    "undrain": _hook,
    "wait": _hook,
    "status": _status,
    "inject": _inject,
    "webhook": _webhook,
    "redirect": _redirect,
    "demo": _proof,
    "probe": _proof,
    "check": _check,
    "rollout": _rollout,
    "advise": _advise,
    "version": _version,
}
