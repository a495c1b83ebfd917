"""README and the documents name links, files, modules, commands and flags that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from efficientnet_elite import __version__
from efficientnet_elite.cli import COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_IN_THE_REPOSITORY = {"mynets.py"}  # a reader's own file
FENCE = re.compile(r"^( *)```\w*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
COMMAND = re.compile(r"(?:^|&&|[;|])\s*(?:\S*/)?elite +([a-z]\w*)(.*)")

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def code(text: str) -> Iterator[str]:
    """Lines of code of a document: those of blocks, continued ones joined, and spans in text."""
    for _, block in FENCE.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    yield from (span.replace("\n", " ") for span in SPAN.findall(FENCE.sub("", text)))


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each `elite COMMAND` of a document, and the names of the flags that it is given."""
    for line in code(text):
        for command, rest in COMMAND.findall(line):
            words = shlex.split(rest.split("&&")[0].split("|")[0], comments=True)
            yield command, [word[2:].split("=")[0] for word in words if word.startswith("--")]


@cache
def flags(command: str) -> set[str]:
    """Names that a command's flags can be given by: `--noNAME` as well where one is a switch."""
    defined = import_module(f"efficientnet_elite.cli.{command}").FLAGS
    return {
        name
        for flag in defined
        for name in ((flag, f"no{flag}") if defined[flag].boolean else (flag,))
    } | {"help"}


@each_document
def test_links_lead_to_files(path):
    text = FENCE.sub("", path.read_text())
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [target.split("#")[0] for target in targets if not target.startswith("http")]
    assert not [target for target in local if target and not (path.parent / target).exists()]


@each_document
def test_documents_of_the_site_link_into_the_site_only(path):
    if path.parent == ROOT:
        return
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    assert not [target for target in targets if target.startswith("..")]


@each_document
def test_named_source_files_exist(path):
    lines = "\n".join(code(path.read_text()))
    named = set(re.findall(r"[\w/.-]+\.py\b", lines))
    sources = [
        str(source.relative_to(ROOT))
        for folder in ("benchmarks", "efficientnet_elite", "export", "tests")
        for source in (ROOT / folder).rglob("*.py")
    ]
    sources.append("setup.py")
    missing = {
        name
        for name in named - NOT_IN_THE_REPOSITORY
        if not any(f"/{source}".endswith(f"/{name}") for source in sources)
    }
    assert not missing


@each_document
def test_named_studies_exist(path):
    names = re.findall(r"benchmarks\.studies\.(\w+)", path.read_text())
    assert not [n for n in names if not (ROOT / "benchmarks" / "studies" / f"{n}.py").is_file()]


@each_document
def test_commands_exist_with_their_flags(path):
    unknown = []
    for command, names in commands(path.read_text()):
        if command not in COMMANDS:
            unknown.append(command)
        else:
            unknown += [f"{command} --{name}" for name in names if name not in flags(command)]
    assert not unknown


@each_document
def test_flags_in_the_text_exist(path):
    """A flag that the text names alone belongs to some command or study."""
    known = set().union(*map(flags, COMMANDS))
    for source in (ROOT / "benchmarks").rglob("*.py"):
        known |= set(re.findall(r"DEFINE_\w+\(\s*\"(\w+)\"", source.read_text()))
    spans = [span for span in SPAN.findall(FENCE.sub("", path.read_text())) if span[:2] == "--"]
    named = {name for span in spans for name in re.findall(r"(?:^|\s)--([\w-]+)", span)}
    named = {name.replace("-", "_") for name in named}  # both spellings are the same
    assert not named - known


def test_commands_are_found():
    """Guards the check above: it is worth nothing where it sees no commands."""
    block = "```\n.venv/bin/x && .venv/bin/elite search --a=1 \\\n  --b\n```"
    text = f"Say `elite status --watch`:\n{block}"
    assert list(commands(text)) == [("search", ["a", "b"]), ("status", ["watch"])]
    assert {"search", "models", "export"} <= {
        command for path in DOCUMENTS for command, _ in commands(path.read_text())
    }


@each_document
def test_lines_are_short(path):
    """Tables, links and generated pages have lines as long as they need."""
    if "Written by `" in path.read_text():
        return
    text = FENCE.sub("", path.read_text())
    long = [line for line in text.splitlines() if len(line) > 100 and "|" not in line]
    assert not [line for line in long if len(re.sub(r"\(http\S+\)|https?://\S+", "", line)) > 100]


def test_changelog_and_citation_know_the_version():
    assert f"\n## {__version__} - 20" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(tmp_path):
    """Built strictly, as CI does; no page asks another server for anything."""
    pytest.importorskip("material")
    build = import_module("mkdocs.commands.build")
    load_config = import_module("mkdocs.config").load_config
    build.build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path)))
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 10
    elsewhere = r"<(?:script|img|iframe)[^>]+src=\"?https?:|<link[^>]+stylesheet[^>]+https?:"
    assert not [page for page in pages if re.search(elsewhere, page.read_text())]
