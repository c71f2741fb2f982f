"""Print how readable the code base is. `make house`; the limits are held by tests/house/test_house.py.

python -m tests.house            print the measures
python -m tests.house --where    print also each private word with the identifiers that hold it
"""

import argparse
from collections import Counter

from tests.docs import repository
from tests.docs.test_citations import cited_private_documents
from tests.house import measure
from tests.house.test_house import (
    MOST_LINES,
    MOST_LINES_P90,
    MOST_OTHER_DOCSTRINGS_PERCENT,
    MOST_PRIVATE_PERCENT,
    MOST_README_WORDS,
)


def main() -> None:
    """Print one line for each measure, with its limit."""
    parser = argparse.ArgumentParser(
        prog="make house", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--where", action="store_true", help="print each private word and the identifiers that hold it")
    where = parser.parse_args().where
    private = measure.private_words()
    for package in ("services", "schemas", "infra"):
        count = measure.count_words(measure.modules_of(package), private)
        limit = f"at most {MOST_PRIVATE_PERCENT} %" if package == "services" else "no limit"
        print(f"private words in identifiers of {package}: {count.percent:.2f} % of {count.total} ({limit})")
        if where:
            _print_words(package, private)
    print(f"class names with two meanings: {len(measure.ambiguous_classes(measure.modules_of(*measure.PACKAGES)))} (0)")
    print(f"citations of a document that is not in the repository: {len(cited_private_documents())} (0)")
    print(f"import cycles: {len(measure.import_cycles(measure.imports()))} (0)")
    print(f"imports upward: {len(measure.upward_imports())} (0)")
    print(f"words in the README: {measure.readme_words()} (at most {MOST_README_WORDS})")
    for journey, figures in measure.journey_figures().items():
        print(f"{journey}: {figures.files} files, {figures.functions} functions (held by tests/traced_way)")
    _print_prose()


def _print_prose() -> None:
    modules = measure.modules_of(*measure.PACKAGES)
    words, verbs = measure.first_words(modules), measure.verbs()
    others = 100 * sum(word not in verbs for _, word in words) / len(words)
    print(
        f"docstrings of functions that are not imperative: {others:.1f} % (at most {MOST_OTHER_DOCSTRINGS_PERCENT:.0f} %)"
    )
    found = measure.phrases_in_code(*measure.PACKAGES) + measure.phrases_in_pages(repository.pages())
    print(f"phrases to avoid in code and pages: {len(found)} (0)")
    lengths = [lines for lines, place in measure.function_lengths(modules) if "/migrations/" not in place]
    p90 = lengths[int(0.9 * (len(lengths) - 1))]
    print(
        f"lines of a function: 90th percentile {p90} (at most {MOST_LINES_P90}), longest {lengths[-1]} (at most {MOST_LINES})"
    )


def _print_words(package: str, private: frozenset[str]) -> None:
    holding: dict[str, Counter[str]] = {}
    for tree in measure.modules_of(package).values():
        for name in measure.identifiers(tree):
            for word in private.intersection(measure.words_of(name)):
                holding.setdefault(word, Counter())[name] += 1
    for word, names in sorted(holding.items(), key=lambda item: -item[1].total()):
        shown = ", ".join(f"{name} ({times})" for name, times in names.most_common(8))
        print(f"  {word} {names.total()}: {shown}")


if __name__ == "__main__":
    main()
