"""Hold the measures of readability at their limits; each measure is also shown to notice what it is for."""

import ast
import subprocess

import pytest

from services.runtime.settings import CHECKOUT
from tests.house import measure

MOST_PRIVATE_PERCENT = 0.8
MOST_README_WORDS = 800


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


def test_the_list_of_private_words_only_grows() -> None:
    path = str(measure.WORDS.relative_to(CHECKOUT))
    log = subprocess.run(
        ["git", "log", "--format=%H", "--", path], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    for commit in log.stdout.split():
        shown = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=CHECKOUT, capture_output=True, text=True)
        removed = set(shown.stdout.split()) - measure.private_words()
        assert removed == set(), f"words were taken off the list since {commit}"


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
