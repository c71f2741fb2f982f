"""docs/settings.md, generated from services/runtime/settings.py: every setting of a service process.

python -m infra.docgen.settings_table            # write the page, then commit it
python -m infra.docgen.settings_table --check    # exit 1 if it differs
"""

import argparse
import sys
from collections.abc import Iterator

from pydantic_core import PydanticUndefined

from infra.docgen.partner_pages.markdown import table
from services.runtime.settings import CHECKOUT, Settings

PAGE = CHECKOUT / "docs" / "settings.md"

HEAD = """<!-- Made by `python -m infra.docgen.settings_table` from services/runtime/settings.py. Do not change it here. -->

# Settings

Each process reads its settings from environment variables when it starts. If a required one is missing or a value is not valid, the
process writes the name and what is expected to stderr and exits with 1. `lightbulb migrate`, `status`, `trace`, `quarantine`, `replay`
and `republish` read `LIGHTBULB_DATABASE` and `LIGHTBULB_KAFKA` from the environment too; without them they use the installation in
`--data` (`LIGHTBULB_DATA`). How to deploy: [deploy.md](deploy.md). Limits of intake that are not settings: [limits.md](limits.md).
"""


def generated() -> str:
    """Return the page as it should be."""
    return "\n".join([HEAD, *table(("setting", "default", "meaning"), _rows())]).rstrip("\n") + "\n"


def _rows() -> Iterator[tuple[str, str, str]]:
    for name, field in Settings.model_fields.items():
        default = "required" if field.default is PydanticUndefined else _shown(field.default)
        yield f"`LIGHTBULB_{name.upper()}`", default, f"{field.description}"


def _shown(default: object) -> str:
    return "" if default is None else f"`{str(default).replace(str(CHECKOUT) + '/', '')}`"


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with --check compare it. Exit code 1: it differs."""
    reader = argparse.ArgumentParser(
        prog="python -m infra.docgen.settings_table", description="Writes docs/settings.md."
    )
    reader.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page differs")
    if reader.parse_args(arguments).check:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != generated())
    PAGE.write_text(generated(), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
