"""The glossary names every public class of the published language, and each word and class once."""

import importlib
import pkgutil
import re
from collections import Counter

import schemas
from tests.docs import repository

ROWS = re.findall(r"^\| (.+?) \| (?:`([\w.]+)` \| )?(.+?) \|$", repository.pages()["docs/glossary.md"], re.M)
CLASSES = [name for _, name, _ in ROWS if name]
WORDS = [word.lower() for word, _, _ in ROWS if word != "term"]


def public_classes() -> set[str]:
    """Return every class that a module of schemas defines."""
    modules = [importlib.import_module(one.name) for one in pkgutil.walk_packages(schemas.__path__, "schemas.")]
    return {
        f"{module.__name__}.{name}"
        for module in modules
        for name, found in vars(module).items()
        if isinstance(found, type) and found.__module__ == module.__name__ and not name.startswith("_")
    }


def test_every_public_class_of_the_published_language_is_in_the_glossary() -> None:
    assert len(public_classes()) > 50
    assert public_classes() - set(CLASSES) == set()


def test_a_class_has_one_word() -> None:
    assert [name for name, times in Counter(CLASSES).items() if times > 1] == []


def test_a_word_has_one_meaning() -> None:
    assert len(WORDS) > len(CLASSES)
    assert [word for word, times in Counter(WORDS).items() if times > 1] == []
