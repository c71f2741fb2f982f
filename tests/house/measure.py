"""Measure how readable the code base is: words in identifiers, class names, citations, imports, the README."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import grimp

from services.runtime.settings import CHECKOUT

WORDS = Path(__file__).with_name("private_words.txt")
VERBS = Path(__file__).with_name("verbs.txt")
PHRASES = Path(__file__).with_name("phrases.txt")
PACKAGES = ("schemas", "services", "infra", "bench")
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


@dataclass
class WordCount:
    """How many words of identifiers there are, and which of them are private."""

    total: int = 0
    private: Counter[str] = field(default_factory=Counter)

    @property
    def percent(self) -> float:
        """Private words per hundred."""
        return 100 * self.private.total() / self.total if self.total else 0.0


def private_words() -> frozenset[str]:
    """Return the words that no identifier should hold. The list may only grow."""
    return frozenset(WORDS.read_text(encoding="utf-8").split())


def words_of(identifier: str) -> list[str]:
    """Split an identifier at underscores and capitals, in lower case."""
    return [word.lower() for word in _WORD.findall(identifier)]


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Yield every identifier of a module each time that it is written."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.keyword(arg=str(name)) | ast.MatchAs(name=str(name)) | ast.ExceptHandler(name=str(name)):
                yield name
            case ast.alias(name=name, asname=other):
                yield from name.split(".")
                yield from [other] if other else []
            case ast.ImportFrom(module=str(name)):
                yield from name.split(".")


def count_words(modules: dict[str, ast.Module], private: frozenset[str]) -> WordCount:
    """Count the words in the identifiers of these modules."""
    count = WordCount()
    for tree in modules.values():
        for word in (word for name in identifiers(tree) for word in words_of(name)):
            count.total += 1
            if word in private:
                count.private[word] += 1
    return count


def modules_of(*packages: str) -> dict[str, ast.Module]:
    """Return the parsed modules of these packages by path."""
    files = [file for package in packages for file in sorted((CHECKOUT / package).rglob("*.py"))]
    return {str(file.relative_to(CHECKOUT)): _parsed(file) for file in files}


@cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def ambiguous_classes(modules: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Return the public class names that more than one module defines, with the modules."""
    defined: dict[str, list[str]] = {}
    for path, tree in modules.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                defined.setdefault(node.name, []).append(path)
    return {name: paths for name, paths in defined.items() if len(paths) > 1}


def import_cycles(edges: dict[str, set[str]]) -> list[set[str]]:
    """Return the groups of modules that import each other (strongly connected components of more than one module)."""
    reach = {module: _reachable(module, edges) for module in edges}
    groups = {frozenset({other for other in reach[module] if module in reach[other]}) for module in edges}
    return [set(group) for group in groups if group]


def _reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    pending = [start]
    while pending:
        new = edges.get(pending.pop(), set()) - reached
        reached |= new
        pending += new
    return reached


def imports() -> dict[str, set[str]]:
    """Return which modules each module of the product imports directly."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def upward_imports() -> list[str]:
    """Return the broken import contracts of pyproject.toml, which state who may import whom."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    ran = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300)
    if ran.returncode not in (0, 1) or "Contracts:" not in ran.stdout:
        raise RuntimeError(f"lint-imports failed: {ran.stdout[-500:]}{ran.stderr[-500:]}")
    return [line for line in ran.stdout.splitlines() if line.endswith("BROKEN")]


def readme_words() -> int:
    """Return how many words the README has."""
    return len((CHECKOUT / "README.md").read_text(encoding="utf-8").split())


class JourneyFigures(NamedTuple):
    """How many files and functions of schemas/ and services/ one message enters."""

    files: int
    functions: int


_JOURNEY = re.compile(r"^\| (?P<journey>[^|]+) \| (?P<files>\d+) \| (?P<functions>\d+) \|$", re.M)


def journey_figures() -> dict[str, JourneyFigures]:
    """Return the figures that docs/architecture.md states; tests/traced_way holds them to what is entered."""
    page = (CHECKOUT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = _JOURNEY.finditer(page.partition("## Files and functions on the way")[2].partition("\n## ")[0])
    return {row["journey"]: JourneyFigures(int(row["files"]), int(row["functions"])) for row in rows}


# ---- prose ----------------------------------------------------------------------------------------------------------

_SPAN = re.compile(r"`[^`]*`")


def first_words(modules: dict[str, ast.Module]) -> list[tuple[str, str]]:
    """Return (place, first word) of the docstring of every function and method; properties may be noun phrases."""
    return [
        (f"{path}:{node.lineno} {node.name}", (doc.split() or [""])[0].strip("`.,:").lower())
        for path, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
        and (doc := ast.get_docstring(node))
    ]


def verbs() -> frozenset[str]:
    """Return the verbs that a docstring may begin with."""
    return frozenset(VERBS.read_text(encoding="utf-8").split())


def function_lengths(modules: dict[str, ast.Module]) -> list[tuple[int, str]]:
    """Return (lines with signature and docstring, place) of every function, the longest last."""
    return sorted(
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{path}:{node.lineno} {node.name}")
        for path, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def phrases() -> re.Pattern[str]:
    """Return one pattern of all phrases to avoid."""
    lines = PHRASES.read_text(encoding="utf-8").splitlines()
    return re.compile("|".join(f"(?:{line})" for line in lines if line and not line.startswith("#")), re.I)


def prose_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of the comments and docstrings of a module; strings after an assignment count as docstrings."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from enumerate(node.value.value.splitlines(), node.lineno)


def phrases_in_code(*packages: str) -> list[str]:
    """Return the places in comments and docstrings of these packages that hold a phrase to avoid."""
    pattern = phrases()
    files = [file for package in packages for file in sorted((CHECKOUT / package).rglob("*.py"))]
    return [
        f"{file.relative_to(CHECKOUT)}:{number}: {found[0]}"
        for file in files
        for number, line in prose_of(file.read_text(encoding="utf-8"))
        if (found := pattern.search(_SPAN.sub("", line)))
    ]


def phrases_in_pages(pages: dict[str, str]) -> list[str]:
    """Return the places in Markdown pages, outside code, that hold a phrase to avoid.

    docs/partners quotes the labels of forms and files, which are written for people who are not engineers.
    """
    pattern = phrases()
    return [
        f"{name}:{number}: {found[0]}"
        for name, page in pages.items()
        if not name.startswith("docs/partners/")
        for number, line in enumerate(page.splitlines(), 1)
        if (found := pattern.search(_SPAN.sub("", line)))
    ]
