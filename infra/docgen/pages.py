"""The generated pages by path below docs/: limits of intake, settings, hubs' commands, and a page for each partner's format."""

from pathlib import Path

from infra.docgen import commands_page, limits_page, settings_page
from infra.docgen.partner_pages import index
from services.runtime.settings import CHECKOUT

DOCS = CHECKOUT / "docs"
DIRECTORY = CHECKOUT / "infra" / "reference_data"


def generated(source: Path = DIRECTORY) -> dict[str, str]:
    """Return every page by its path below docs/. Raise ConfigError if a reviewed file in `source` is not valid."""
    partner_pages = {f"partners/{name}": text for name, text in index.generated(source).items()}
    pages = {"limits.md": limits_page, "settings.md": settings_page, "connect/commands.md": commands_page}
    return {**{name: page.generated() for name, page in pages.items()}, **partner_pages}


def drift(docs: Path = DOCS, source: Path = DIRECTORY) -> list[str]:
    """Return the pages that differ from their sources, are missing, or belong to a partner that was removed."""
    expected = generated(source)
    left_over = {f"partners/{path.name}" for path in (docs / "partners").glob("*.md")} - expected.keys()
    return sorted(left_over | {name for name, text in expected.items() if _read(docs / name) != text})


def write(docs: Path = DOCS, source: Path = DIRECTORY) -> list[str]:
    """Make the pages agree with their sources; return those that changed."""
    changed, expected = drift(docs, source), generated(source)
    for folder in ("partners", "connect"):
        (docs / folder).mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in expected:
            (docs / name).write_text(expected[name], encoding="utf-8", newline="\n")
        else:
            (docs / name).unlink()
    return changed


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
