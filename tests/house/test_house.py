"""Hold the measures of readability at their limits; each measure is also shown to notice what it is for."""

import ast
import subprocess
from pathlib import Path

import pytest

from services.runtime.settings import CHECKOUT
from tests.docs import repository
from tests.house import commit_subjects, measure

MOST_PRIVATE_PERCENT = 0.8
MOST_README_WORDS = 800
MOST_OTHER_DOCSTRINGS_PERCENT = 5.0
MOST_LINES_P90 = 15
MOST_LINES = 30


def test_identifiers_of_the_services_hold_few_private_words() -> None:
    count = measure.count_words(measure.modules_of("services"), measure.private_words())
    assert count.total > 10_000
    assert count.percent <= MOST_PRIVATE_PERCENT, f"run `make house ARGS=--where`: {count.private.most_common(10)}"


def test_a_public_class_name_has_one_meaning() -> None:
    modules = measure.modules_of(*measure.PACKAGES)
    assert len(modules) > 100
    assert measure.ambiguous_classes(modules) == {}


def test_no_modules_import_each_other() -> None:
    imports = measure.imports()
    assert len(imports) > 100
    assert measure.import_cycles(imports) == []


def test_no_import_goes_upward() -> None:
    assert measure.upward_imports() == []


def test_the_readme_is_short() -> None:
    assert 100 < measure.readme_words() <= MOST_README_WORDS


def test_docstrings_of_functions_are_imperative() -> None:
    words, verbs = measure.first_words(measure.modules_of(*measure.PACKAGES)), measure.verbs()
    others = [place for place, word in words if word not in verbs]
    assert len(words) > 500
    assert 100 * len(others) / len(words) <= MOST_OTHER_DOCSTRINGS_PERCENT, others


def test_prose_of_the_code_is_plain() -> None:
    assert measure.phrases_in_code(*measure.PACKAGES) == []


def test_prose_of_the_pages_is_plain() -> None:
    pages = repository.pages()
    assert len(pages) > 30
    assert measure.phrases_in_pages(pages) == []


def test_functions_are_short() -> None:
    lengths = measure.function_lengths(measure.modules_of(*measure.PACKAGES))
    assert len(lengths) > 1000
    assert lengths[int(0.9 * (len(lengths) - 1))][0] <= MOST_LINES_P90
    assert [one for one in lengths if one[0] > MOST_LINES and "/migrations/" not in one[1]] == []


@pytest.mark.parametrize("list_", [measure.WORDS, measure.PHRASES], ids=["words", "phrases"])
def test_a_list_of_what_to_avoid_only_grows(list_: Path) -> None:
    path = str(list_.relative_to(CHECKOUT))
    log = subprocess.run(
        ["git", "log", "--format=%H", "--", path], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    for commit in log.stdout.split():
        shown = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=CHECKOUT, capture_output=True, text=True)
        removed = set(shown.stdout.splitlines()) - set(list_.read_text(encoding="utf-8").splitlines())
        assert removed == set(), f"taken off the list since {commit}"


@pytest.mark.parametrize(
    ("source", "private"),
    [
        ("told = 1", {"told": 1}),
        ("def tell_nobody(whoSaid): ...", {"tell": 1, "nobody": 1, "said": 1}),
        ("class KnownReferral:\n    seat: int", {"known": 1, "seat": 1}),
        ("from services.messaging import sight as far", {"sight": 1}),
        ("call(found=x.told)", {"found": 1, "told": 1}),
        ("'told'; untold = holder = 1", {}),
    ],
)
def test_private_words_are_counted_in_every_kind_of_identifier(source: str, private: dict[str, int]) -> None:
    count = measure.count_words({"module.py": ast.parse(source)}, measure.private_words())
    assert dict(count.private) == private


def test_a_class_that_two_modules_define_is_noticed() -> None:
    modules = {
        "one.py": ast.parse("class Row: ...\nclass _Own: ..."),
        "two.py": ast.parse("class Row: ...\nclass _Own: ..."),
    }
    assert measure.ambiguous_classes(modules) == {"Row": ["one.py", "two.py"]}


def test_a_cycle_of_imports_is_noticed() -> None:
    assert measure.import_cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [{"a", "b", "c"}]
    assert measure.import_cycles({"a": {"b"}, "b": set()}) == []


@pytest.mark.parametrize(
    ("line", "is_plain"),
    [
        ("Return None if there is no trace.", True),
        ("It is no longer running.", True),
        ("None where it is no number.", False),
        ("Whoever sends it", False),
        ("The sender is told.", False),
        ("The relay goes on.", False),
        ("`nobody` is an account", True),
    ],
)
def test_phrases_to_avoid_are_noticed(line: str, is_plain: bool) -> None:
    assert (measure.phrases_in_pages({"page.md": line}) == []) is is_plain


def test_prose_is_found_in_docstrings_and_comments_only() -> None:
    source = '"""One."""\nX = "two"  # three\n"""Four\nfive."""\n'
    assert {(line, text) for line, text in measure.prose_of(source)} == {
        (1, "One."),
        (2, "# three"),
        (3, "Four"),
        (4, "five."),
    }


@pytest.mark.parametrize(
    ("subject", "faults"),
    [
        ("Add a check", 0),
        ("outbox: parse headers once", 0),
        ("Add one: two", 0),
        ("A check is added", 1),
        ("Add " + "x" * 80, 1),
        ("", 1),
    ],
)
def test_a_commit_subject_is_imperative_and_short(subject: str, faults: int) -> None:
    assert len(commit_subjects.faults_of(subject, measure.verbs())) == faults
