"""Prose names what exists: settings, metrics, alerts, targets, files, commands, packages, decisions."""

from __future__ import annotations

import re
import shlex
import tomllib

import pytest

from drainproxy import flavour, metrics, settings
from drainproxy.cli import arguments
from drainproxy.injector.patch import inject
from drainproxy.telemetry import push
from tests.injector.pods import app, pod
from tests.injector.ways import HOUSE
from tests.test_docs import ROOT, documents

PAGES = [*documents(), ROOT / "bench/README.md", ROOT / "tests/conformance/README.md"]
TEXTS = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in PAGES}
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DECISIONS = ROOT / "docs" / "decisions"

FOREIGN = {"docs/comparison.md"}
"""Names files of other projects, as its sources."""
INVENTED = {"deployment.yaml", "drainproxy.yaml", "routes.yaml", "sbom.json", "file.py", "VERSION"}
"""Files that a reader has, and places for a name."""

everywhere = pytest.mark.parametrize("page", TEXTS)


def commands(text: str) -> list[list[str]]:
    """Each `drainproxy` command of a page's console blocks and inline code, as words."""
    blocks = [line for block in FENCE.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    inline = [code for code in CODE.findall(text) if re.match(r"drainproxy [a-z]+ -?", code)]
    pieces = [piece.strip() for line in [*blocks, *inline] for piece in line.split(" | ")]
    return [shlex.split(piece)[1:] for piece in pieces if piece.startswith("drainproxy ")]


@everywhere
def test_each_setting_exists(page):
    """A variable of the environment that a page names is read by the program, or by who builds it."""
    builds = set(re.findall(r'^ASKED = "(\w+)"$', (ROOT / "hatch_build.py").read_text("utf-8"), re.MULTILINE))
    known = {setting.env for setting in settings.table()} | builds | {flavour.PURE}
    assert set(re.findall(r"\bDRAINPROXY_[A-Z0-9]+(?:_[A-Z0-9]+)*\b(?!_)", TEXTS[page])) <= known


TABLE = {setting.name: setting for setting in settings.table()}
OF_THE_CODE = {"head_timeout: PositiveDuration"}
"""How a setting is declared, in a decision about it."""


def values(text: str) -> list[tuple[str, str]]:
    """Each `setting: value` of a page's inline code."""
    found = [re.fullmatch(r"([a-z][a-z0-9_]*): (\S.*)", code) for code in CODE.findall(text)]
    return [(each[1], each[2]) for each in found if each and each[1] in TABLE and each[0] not in OF_THE_CODE]


def annotations(text: str) -> list[tuple[str, str]]:
    """Each `drainproxy.io/NAME: VALUE` of a page's inline code, less the labels."""
    found = re.findall(r'`drainproxy\.io/([a-z-]+): "?([^"`\n]*)"?`', text)
    return [(name, value) for name, value in found if name not in {"inject", "injected", "rev"}]


@everywhere
def test_each_value_is_one_that_its_setting_takes(page):
    """Whoever writes down what a page says has a proxy that starts."""
    for name, value in values(TEXTS[page]):
        setting = TABLE[name]
        for part in value.split(",") if setting.many else [value]:
            assert (part == "off" and setting.may_be_off) or setting.kind.read(part) is not None


@everywhere
def test_each_annotation_is_one_that_injection_takes(page):
    """By name and by value."""
    for name, value in annotations(TEXTS[page]):
        inject(pod(app("app", ("http", 8080)), annotations={f"drainproxy.io/{name}": value}), HOUSE, "shop")


@everywhere
def test_each_metric_exists(page):
    """A series that a page names is exported; a histogram's also by its parts."""
    families = [*metrics.Metrics().families(), *metrics.WebhookMetrics().families()]
    known = {f"{metrics.PREFIX}{each.name}{part}" for each in families for part in ("", "_bucket")}
    known |= push.names(metrics.Metrics())
    # What the chart's rules record is looked for in tests/monitoring.
    assert set(re.findall(r"(?<!:)\bdrainproxy_[a-z0-9_]+", TEXTS[page])) <= known


@everywhere
def test_each_alert_exists(page):
    """An alert that a page names is among the rules."""
    rules = (ROOT / "helm/drainproxy/alerts/rules.yaml").read_text("utf-8")
    assert set(re.findall(r"\bDrainproxy[A-Z]\w+", TEXTS[page])) <= set(re.findall(r"alert: (\w+)", rules))


@everywhere
def test_each_target_exists(page):
    """What a page tells to make is in the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    blocks = "\n".join(FENCE.findall(TEXTS[page])).splitlines()
    told = [code.split()[1:] for code in [*CODE.findall(TEXTS[page]), *blocks] if code.startswith("make ")]
    assert {word for words in told for word in words if word.islower()} <= targets


@everywhere
def test_each_file_exists(page):
    """A path that a page names leads somewhere, from the root, the package, the tests or the page itself."""
    names = re.findall(r"`([\w./-]+\.(?:py|md|ya?ml|toml|lock|json|png|conf))(?:::\w+)?`", TEXTS[page])
    beside = (ROOT, ROOT / "drainproxy", ROOT / "tests", (ROOT / page).parent)
    missing = [name for name in names if not any((place / name).exists() for place in beside)]
    assert page in FOREIGN or set(missing) <= INVENTED


@everywhere
def test_each_command_is_understood(page):
    """The command line takes every command as it is written, but for what stands in capitals."""
    for words in commands(TEXTS[page]):
        required = ["--cert", "c", "--key", "k"] if words == ["webhook"] else []
        arguments.parse([*words, *required])


def test_there_are_commands_to_look_at():
    """A page that is checked by what cannot fail is not checked."""
    assert sum(len(commands(text)) for text in TEXTS.values()) > 20
    assert sum(len(values(text)) for text in TEXTS.values()) > 40
    assert sum(len(annotations(text)) for text in TEXTS.values()) > 5
    with pytest.raises(SystemExit):
        arguments.parse(commands("`drainproxy inject --chek`")[0])


def test_what_is_said_to_be_pure_is_held_to_it():
    """The architecture names modules of the contract in pyproject.toml, and no others."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    [pure] = [each for each in contracts if each["name"] == "what is pure stays pure"]
    held = {name.rpartition(".")[2] for name in pure["source_modules"]}
    [said] = re.findall(r"^Modules that only compute .*$", TEXTS["docs/architecture.md"], re.MULTILINE)
    assert {name.rstrip("/") for name in CODE.findall(said)} - held == set()


def test_each_dependency_has_its_reason():
    """What pyproject.toml asks for stands in the decision about dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    wanted = {re.match(r"[\w-]+", each)[0] for group in groups for each in group if isinstance(each, str)}
    said = (DECISIONS / "0002-dependencies.md").read_text("utf-8")
    assert {name for name in wanted if not re.search(rf"\| [^|]*\b{re.escape(name)}\b", said)} == set()


def test_decisions_are_listed_without_a_gap():
    """The index names each decision, and the numbers are successive."""
    files = sorted(path.name for path in DECISIONS.glob("0*.md"))
    assert re.findall(r"\]\((0.*?\.md)\)", (DECISIONS / "README.md").read_text("utf-8")) == files
    assert [int(name[:4]) for name in files] == list(range(1, len(files) + 1))


def test_the_architecture_has_a_row_for_each_name_at_the_top():
    """Who looks for a module of the package finds which question it answers."""
    table = (ROOT / "docs/architecture.md").read_text("utf-8").partition("## Rooms")[2].partition("\n## ")[0]
    package = ROOT / "drainproxy"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    names = {f"{room}/" for room in rooms} | {path.name for path in package.glob("[a-z]*.py")}
    assert {name for name in names if f"`{name}`" not in table} == set()
