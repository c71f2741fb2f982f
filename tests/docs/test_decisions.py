"""Decision records: one form, one page, and a line in the index."""

import re
from pathlib import Path

import pytest

from services.runtime.settings import CHECKOUT

FOLDER = CHECKOUT / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
SECTIONS = ["Status", "Context", "Options", "Decision", "Consequences"]
MOST_WORDS = 600


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_a_record_has_its_number_and_every_section_on_one_page(record: Path) -> None:
    text = record.read_text(encoding="utf-8")
    assert text.startswith(f"# {record.name[:4]}. ")
    assert re.findall(r"^## (.+)$", text, re.M) == SECTIONS
    assert len(text.split()) <= MOST_WORDS


def test_the_index_lists_every_record_by_its_title() -> None:
    titles = [f"- [{record.read_text(encoding='utf-8').splitlines()[0][2:]}]({record.name})" for record in RECORDS]
    index = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    assert titles
    assert [line for line in index if line.startswith("- ")] == titles
