"""The words of the command line: every verb, its flags and its help.

Reads no setting and runs nothing. Called by main.py, which knows what a verb does.
"""

import argparse
import importlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, get_args

from drainproxy import __version__, settings
from drainproxy.log import Format
from drainproxy.values import duration

EXIT_USAGE = 64
"""EX_USAGE of sysexits.h; a wrong setting has the same code, wherever it was written."""

DESCRIPTION = "An HTTP reverse proxy that makes a pod's end invisible to its clients."

EPILOG = """\
examples:
  drainproxy run --listen :28080 --upstream http://127.0.0.1:8080
  drainproxy config --check --config drainproxy.yaml
  drainproxy drain --prestop            in the sidecar's preStop hook
  drainproxy status --watch             while a pod goes away
  drainproxy check deploy/web -n shop   before the next rollout
  drainproxy rollout deploy/web         after it; with --watch, from before it on

exit codes:
  0   done; also a drain that ended work at its deadline
  1   something failed: a check, a probe, a command to the proxy; a rollout that lost something
  2   of some pods of a rollout it is not known
  64  the configuration or the command line is wrong
  69  no proxy answers, or no cluster
  70  an internal failure
  71  a listening port is in use
"""

SETTINGS_EPILOG = """\
Each setting is also DRAINPROXY_<NAME> in the environment and <name> in the YAML file (--config).
A flag wins over the environment, that over the file. Durations need a unit: 500ms, 30s, 2m, 1h.
"""

VERBS = {
    "run": "forward requests until the pod ends, then drain",
    "config": "show the settings in effect and how the grace period is divided",
    "drain": "begin to drain, as SIGTERM does, and stay until SIGTERM comes",
    "undrain": "take a drain by hand back, before its tunnels are told to leave or once it is over",
    "wait": "block until the proxy has drained",
    "status": "show what the proxy is doing, and what it waits for",
    "inject": "put the sidecar into the workloads of a YAML file that ask for it",
    "webhook": "put the sidecar into pods as the API server admits them",
    "redirect": "lead what comes to a port of this pod to the sidecar, by nftables; in an init container",
    "demo": "see on loopback what a rollout loses, with drainproxy and without",
    "probe": "hit a URL at a steady rate while a command runs; name every lost request",
    "rollout": "say what became of each pod of a rollout, live or afterwards, and what to change",
    "advise": "say which preset, margin and grace period would have been enough for drains that were seen",
    "check": "judge a workload of a live cluster: will its pods drain, and if not, what to change",
    "version": "show what runs here",
}
TITLES = {"proxy": "traffic", "lifecycle": "draining", "kube": "cluster"}


class _Parser(argparse.ArgumentParser):
    """argparse with this program's exit code and one-line errors."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; try {self.prog} --help\n")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the verb and its flags, with the `module` of demo and probe; exit for help and mistakes."""
    parser = _Parser(
        prog="drainproxy",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"drainproxy {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb", required=True)
    for name, help_ in VERBS.items():
        verb = verbs.add_parser(
            name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.", allow_abbrev=False
        )
        if arguments and name == arguments[0]:
            # The other verbs' flags would cost their imports.
            _add_flags(verb, name, explain="-h" in arguments or "--help" in arguments)
    if not arguments:
        parser.print_help()
        parser.exit(EXIT_USAGE)
    if arguments[0] != "probe":
        return parser.parse_args(arguments)
    # argparse would take its URL and refuse the command that follows an option: it never sees one.
    words = list(arguments)
    cut = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:cut])
    options.command += words[cut + 1 :]
    return options


def given_settings(options: argparse.Namespace) -> Mapping[str, Any]:
    """Return what the flags say of each setting, None where they say nothing."""
    return {setting.name: getattr(options, f"setting_{setting.name}") for setting in settings.table()}


def _add_flags(parser: argparse.ArgumentParser, verb: str, *, explain: bool) -> None:
    if verb in {"run", "config"}:
        _add_settings(parser, explain=explain)
    if verb == "config":
        text = "only name problems, as of a pod; exit 64 if any"
        parser.add_argument("--check", action="store_true", help=text)
    if verb in {"drain", "undrain", "wait"}:
        parser.set_defaults(prestop=False, wait=False)
        parser.add_argument("--control-socket", metavar="FILE", default="", help="the proxy's control socket")
    if verb == "drain":
        parser.add_argument("--prestop", action="store_true", help="the pod is ending: there is no undrain")
        parser.add_argument("--wait", action="store_true", help="block until drained")
    if verb == "status":
        parser.add_argument("--watch", action="store_true", help="keep showing it until the proxy ends")
        parser.add_argument("--admin", metavar="HOST:PORT", help="default: DRAINPROXY_ADMIN, or :29900")
    if verb in _MORE:
        _MORE[verb](parser, verb)
    if verb in {"status", "config", "check"}:
        parser.add_argument("--json", action="store_true", help="for machines")
    if verb in {"inject", "webhook", "redirect"}:
        _add_injection(parser, verb)
    if verb in {"demo", "probe"}:
        module = importlib.import_module(f"drainproxy.proof.{verb}.main")
        parser.set_defaults(module=module)
        module.add_arguments(parser)


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the flags by which kubectl is told which cluster and namespace are meant."""
    parser.add_argument("-n", "--namespace", metavar="NAME", help="default: the context's, or default")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig; default: its current one")
    parser.add_argument("--kubeconfig", metavar="FILE", help="default: $KUBECONFIG, or ~/.kube/config")


def _add_workload(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument("workload", metavar="KIND/NAME", help="deploy/NAME, sts/NAME, ds/NAME, rollout/NAME")
    add_cluster(parser)
    if verb != "rollout":
        return
    parser.add_argument("--watch", action="store_true", help="wait for a rollout and follow it to its end")
    parser.add_argument(
        "--since", type=_seconds, metavar="1h", help="pods that left in this time; with --watch none [1h]"
    )
    parser.add_argument(
        "--timeout", type=_seconds, metavar="15m", default=900.0, help="of --watch: no longer than that [15m]"
    )
    parser.add_argument("--output", choices=("text", "json"), default="text", help="[text]")


def _add_advise(parser: argparse.ArgumentParser, _verb: str) -> None:
    parser.add_argument("files", metavar="FILE", nargs="*", help="log lines or reports; - is standard input")
    parser.add_argument("--prometheus", metavar="URL", default="", help="ask a Prometheus instead")
    parser.add_argument("--range", metavar="30d", default="30d", help="of --prometheus: so long back [30d]")
    parser.add_argument("--match", metavar="LABELS", default="", help='of --prometheus: workload="shop"')
    parser.add_argument("-n", "--namespace", metavar="NAME", help="only its drains")
    parser.add_argument("--token-file", metavar="FILE", default="", help="a bearer token for it")
    parser.add_argument("--ca", metavar="FILE", default="", help="who signed its certificate")
    parser.add_argument(
        "--share", type=_share, metavar="99.9", default=0.999, help="per cent of drains [99.9]"
    )
    parser.add_argument("--output", choices=("text", "json"), default="text", help="[text]")


def _share(text: str) -> float:
    try:
        share = float(text) / 100
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage: write 99.9")
    return share


def _seconds(text: str) -> float:
    try:
        return duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}: write 30s, 15m or 1h") from None


def _add_injection(parser: argparse.ArgumentParser, verb: str) -> None:
    if verb == "redirect":
        parser.add_argument("pairs", metavar="PORT:PORT", nargs="+", help="the captured port, the sidecar's")
        return
    if verb == "inject":
        parser.add_argument("stray", nargs="*", help=argparse.SUPPRESS)
        text = "may be repeated; default: standard input"
        parser.add_argument("-f", "--filename", metavar="FILE", action="append", default=[], help=text)
        parser.add_argument("--all", action="store_true", help="also workloads whose pods lack the label")
        text = "change what leads to the pods by a number, too: Services, NetworkPolicies, health checks"
        parser.add_argument("--services", action="store_true", help=text)
        parser.add_argument("--check", action="store_true", help="only show what would change")
    else:
        parser.add_argument("--cert", metavar="FILE", required=True, help="PEM chain, the leaf first")
        parser.add_argument("--key", metavar="FILE", required=True, help="its PEM key")
        text = "directory of a token with which Events are written and pods counted; default: none"
        parser.add_argument("--credentials", metavar="DIRECTORY", default="", help=text)
        parser.add_argument("--listen", metavar="HOST:PORT", default=":28443", help="[:28443]")
        parser.add_argument("--admin", metavar="HOST:PORT", default=":29900", help="health, metrics [:29900]")
        parser.add_argument("--log-format", choices=get_args(Format), default="auto", help="[auto]")
    parser.add_argument("--image", metavar="IMAGE", help="the sidecar's image")
    parser.add_argument(
        *("--kubernetes", "--kube-version"),
        metavar="VERSION",
        type=_version,
        help="the cluster's, such as 1.33",
    )
    parser.add_argument(
        "--redirect-image", metavar="IMAGE", default="", help="allow capture by redirect, with this image"
    )
    for flag, metavar, text in (
        ("--revision", "NAME=IMAGE", "image for pods with the label drainproxy.io/rev: NAME"),
        ("--set", "NAME=VALUE", "an annotation that every pod has unless it has its own"),
    ):
        parser.add_argument(flag, metavar=metavar, action="append", default=[], type=_pair, help=text)


def _version(text: str) -> tuple[int, int]:
    match = re.match(r"v?([0-9]{1,3})\.([0-9]{1,3})(?![0-9])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no version such as 1.33")
    return int(match[1]), int(match[2])


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _add_settings(parser: argparse.ArgumentParser, *, explain: bool) -> None:
    """Give the parser a flag for each setting. `explain`: its help is going to be read."""
    parser.usage = "%(prog)s [--SETTING VALUE ...]"
    parser.epilog = SETTINGS_EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    said = settings.documentation() if explain else {}
    groups = {room: parser.add_argument_group(TITLES.get(room, room)) for room in settings.ROOMS}
    for setting in settings.table():
        default = setting.show(setting.default)
        text = said.get(setting.name, "")
        text = f"{text} [{default}]" if default and "Default:" not in text else text
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


_MORE = {"check": _add_workload, "rollout": _add_workload, "advise": _add_advise}
