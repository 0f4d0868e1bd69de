"""The manual: what is generated is up to date, and no link leads nowhere."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def documents() -> list[Path]:
    elsewhere = [ROOT / "helm/drainproxy/README.md", ROOT / "tests/README.md"]
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *elsewhere])


def prose(path: Path) -> str:
    """A document's text without its code blocks."""
    return FENCE.sub("", path.read_text("utf-8"))


def anchors(path: Path) -> set[str]:
    """What GitHub makes of a document's headings."""
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(prose(path)))
    return {word.replace(" ", "-") for word in words}


@pytest.fixture
def generator(monkeypatch):
    """docs/generate.py as a module; what it does to sys.path is undone."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(generator):
    """The generated parts of the manual are what the code says: if not, run docs/generate.py."""
    for path, text in generator.pages().items():
        assert path.read_text("utf-8") == text, f"{path.name} is out of date: run python docs/generate.py"


def test_every_block_has_a_page(generator):
    """Nothing the generator can say is missing from the manual."""
    texts = [path.read_text("utf-8") for path in generator.pages()]
    used = {block for text in texts for _, block, _ in generator.BLOCK.findall(text)}
    assert used == set(generator.BLOCKS)


def test_pictures_are_shown_and_can_be_taken_again():
    """Each one in docs/ stands in a page; docs/pictures.py writes photographs, docs/drawing.py drawings."""
    pictures = {path.name for kind in ("*.png", "*.svg") for path in (ROOT / "docs").glob(kind)}
    links = [link for path in documents() for link in re.findall(r"!\[[^\]]*\]\((.*?)\)", prose(path))]
    makers = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("pictures.py", "generate.py"))
    taken = re.findall(r'"([\w-]+\.(?:png|svg))"', makers)
    assert pictures == {Path(link).name for link in links} == set(taken)


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(document):
    """Every relative link leads to a file of the repository, and to a heading in it."""
    broken = []
    for match in LINK.finditer(prose(document)):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name) if name else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_one_sentence_a_line(document):
    """Prose has one sentence a line, so that a change shows what it changes."""
    sentence_end = re.compile(r"[a-z0-9`)]\. [A-Z]")
    lines = [line.lstrip(" 0123456789.") for line in prose(document).splitlines()]
    assert [line for line in lines if sentence_end.search(line) and not line.startswith("|")] == []


def test_the_manuals_index_leads_to_every_page():
    """Nobody finds a page that is not linked where one looks."""
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / match[1]).resolve() for match in LINK.finditer(prose(index)) if match[1]}
    pages = {
        path for path in (ROOT / "docs").rglob("*.md") if path != index and path.parent.name != "decisions"
    }
    assert pages - linked == set()
    assert ROOT / "docs/decisions/README.md" in linked


def test_each_answer_by_symptom_names_what_tells():
    """Whoever reads it has a command to be sure with, before anything is changed."""
    sections = re.split(r"^## ", (ROOT / "docs/faq.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert len(sections) > 8
    tells = re.compile(r"`(?:kubectl|drainproxy) [a-z-]+ ")
    assert [each.splitlines()[0] for each in sections if not tells.search(each)] == []


def test_each_file_of_tests_is_named_where_one_looks_behaviours_up():
    """tests/README.md names no file that is not there, and leaves none out."""
    tests = ROOT / "tests"
    rows = [line for line in (tests / "README.md").read_text("utf-8").splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`([\w/]+\.py)`", row.rpartition(" | ")[2])}
    assert named == {str(path.relative_to(tests)) for path in tests.rglob("test_*.py")}
