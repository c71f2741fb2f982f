"""Whatever the repository cites is in it, or public: documents, links, headings, paths and names of code."""

import importlib
import os
import re
from pathlib import Path
from typing import Any

import pytest

from services.runtime.settings import CHECKOUT
from tests.docs import repository

OWN = str(Path(__file__).relative_to(CHECKOUT))
PRIVATE = re.compile(r"\bfacts [0-9]|\bpitfalls\b|\bthe design\b", re.I)
PATH = re.compile(r"(?<![\w/.-])([a-z]+)(/[\w.-]+)*/[\w-][\w.-]*\.(?:py|md|ya?ml|json|toml|txt|sh|sql|hl7|csv)\b")
SECTION = re.compile(r"\b(docs/[\w/-]+\.md), ([A-Z][^\n]*)")
CODE = re.compile(r"(?:schemas|services|infra)(?:\.[A-Za-z_]\w*)+")


def private_documents(text: str) -> list[str]:
    """Return the lines that cite a document which nobody outside has."""
    return [line.strip() for line in text.splitlines() if PRIVATE.search(line)]


def dangling_link(page: str, target: str, pages: dict[str, str]) -> bool:
    """Return whether a relative link of `page` leads to no file, or to no heading of it."""
    path, _, anchor = target.partition("#")
    to = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
    if not repository.exists(to):
        return True
    return bool(anchor) and to in pages and anchor not in repository.anchors(pages[to])


def dangling_paths(text: str, folders: set[str]) -> list[str]:
    """Return the paths of the repository's own folders at which there is nothing."""
    return [found[0] for found in PATH.finditer(text) if found[1] in folders and not repository.exists(found[0])]


def dangling_sections(text: str, pages: dict[str, str]) -> list[str]:
    """Return citations such as `docs/page.md, Heading` whose page has no such heading."""
    return [
        f"{page}, {rest[:40]}"
        for page, rest in SECTION.findall(text)
        if not any(rest.startswith(heading) for heading in repository.headings(pages.get(page, "")))
    ]


def is_code(name: str) -> bool:
    """Return whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:size]))
        except ModuleNotFoundError:
            continue
        return _has(found, parts[size:])
    return False


def _has(owner: Any, names: list[str]) -> bool:
    for at, name in enumerate(names):
        if not hasattr(owner, name):
            return at == len(names) - 1 and name in getattr(owner, "__annotations__", {})
        owner = getattr(owner, name)
    return True


def cited_private_documents() -> list[str]:
    """Return every line of the repository that cites a document which nobody outside has."""
    cited = [f"{name}: {line}" for name, text in repository.texts().items() for line in private_documents(text)]
    return [line for line in cited if not line.startswith(f"{OWN}:")]


def test_no_document_is_cited_that_is_neither_here_nor_public() -> None:
    assert cited_private_documents() == []


def test_every_relative_link_leads_to_a_file_and_a_heading() -> None:
    pages = repository.pages()
    targets = [(name, target) for name, page in pages.items() for target in repository.links(page)]
    assert len(targets) > 50
    assert [f"{name} -> {target}" for name, target in targets if dangling_link(name, target, pages)] == []


def test_every_path_of_the_repository_that_is_named_exists() -> None:
    folders = repository.folders()
    named = {name: dangling_paths(text, folders) for name, text in repository.texts().items() if name != OWN}
    assert {name: paths for name, paths in named.items() if paths} == {}


def test_every_folder_in_a_code_span_of_a_page_exists() -> None:
    folders = repository.folders()
    spans = [(name, span) for name, page in repository.pages().items() for span in repository.spans(page)]
    named = [(name, span) for name, span in spans if re.fullmatch(r"([a-z]+)(/[\w.-]+)*/?", span) and "/" in span]
    ours = [(name, span) for name, span in named if span.split("/", 1)[0] in folders]
    assert ours
    assert [f"{name}: {span}" for name, span in ours if not repository.exists(span)] == []


def test_every_section_that_code_cites_is_a_heading_of_its_page() -> None:
    pages = repository.pages()
    named = {name: dangling_sections(text, pages) for name, text in repository.texts().items() if name != OWN}
    assert {name: sections for name, sections in named.items() if sections} == {}


def test_every_name_of_code_in_a_page_exists() -> None:
    spans = [(name, span) for name, page in repository.pages().items() for span in repository.spans(page)]
    named = [(name, span) for name, span in spans if CODE.fullmatch(span)]
    assert named
    assert [f"{name}: {span}" for name, span in named if not is_code(span)] == []


def test_every_test_that_a_page_names_exists() -> None:
    tests = {
        name for text in repository.texts().values() for name in re.findall(r"^ *(?:async )?def (test_\w+)", text, re.M)
    }
    named = {
        span for page in repository.pages().values() for span in repository.spans(page) if span.startswith("test_")
    }
    assert len(named) > 20
    assert named - tests == set()


@pytest.mark.parametrize("line", ["Sources: facts 3.11", "(pitfalls E5)", "by the design's table", "Facts 3 says"])
def test_a_private_document_is_noticed(line: str) -> None:
    assert private_documents(f"first\n{line}\nlast") == [line]


@pytest.mark.parametrize("target", ["missing.md", "#nothing", "../README.md#nothing", "../../outside.md"])
def test_a_dangling_link_is_noticed(target: str) -> None:
    assert dangling_link("docs/page.md", target, {"docs/page.md": "# Page", "README.md": "# Title"})


@pytest.mark.parametrize("target", ["#a-page-with-code", "../README.md", "../README.md#title", "decisions/"])
def test_a_good_link_is_not(target: str) -> None:
    assert not dangling_link(
        "docs/glossary.md", target, {"docs/glossary.md": "# A page, with `code`", "README.md": "# Title"}
    )


def test_a_path_at_which_there_is_nothing_is_noticed() -> None:
    assert dangling_paths("see tests/nothing.py and data/x.json, not tests/conftest.py", {"tests"}) == [
        "tests/nothing.py"
    ]


def test_a_section_that_is_not_there_is_noticed() -> None:
    pages = {"docs/page.md": "# Page\n## Who receives what\n"}
    assert dangling_sections("docs/page.md, Who receives what; docs/page", pages) == []
    assert dangling_sections("docs/page.md, Nothing of it", pages) == ["docs/page.md, Nothing of it"]


@pytest.mark.parametrize("name", ["schemas.nothing", "schemas.referral.Nothing", "schemas.referral.Referral.nothing"])
def test_a_name_that_code_does_not_have_is_noticed(name: str) -> None:
    assert not is_code(name)


@pytest.mark.parametrize("name", ["schemas", "schemas.referral.Referral", "schemas.referral.Referral.needs"])
def test_a_name_that_code_has_is_not(name: str) -> None:
    assert is_code(name)
