"""Markdown, and the words of a place in the canonical referral."""

from collections.abc import Iterable, Sequence

from schemas.referral import Referral
from services.reference.yaml_files import field_at


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table with these columns; nothing where there are no rows."""
    written = [_row(row) for row in rows]
    return [_row(names), "|" + "---|" * len(names), *written, ""] if written else []


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def section(title: str, *lines: str) -> list[str]:
    """A heading and what stands below it; nothing where nothing does."""
    return [f"## {title}", "", *lines] if lines else []


def code(text: str) -> str:
    """A word as a sender writes it, or a place."""
    return f"`{text}`" if text.strip() == text and text else f'`"{text}"`'


def place(path: str) -> str:
    """A place of the canonical referral, and what it is: `person.birth_date`: Date of birth."""
    field = field_at(Referral, path)
    return f"{code(path)}: {field.description}" if field and field.description else code(path)
