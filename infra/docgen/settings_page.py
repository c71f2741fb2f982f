"""Generate docs/settings.md from services/runtime/settings.py: every setting of a service process."""

from collections.abc import Iterator

from pydantic_core import PydanticUndefined

from infra.docgen.markdown import page, table
from services.runtime.settings import CHECKOUT, Settings

HEAD = """# Settings

Each process reads its settings from environment variables when it starts. If a required one is missing or a value is not valid, the
process writes the name and what is expected to stderr and exits with 1. Commands such as `lightbulb migrate` and `lightbulb status` read
`LIGHTBULB_DATABASE`, `LIGHTBULB_KAFKA` and `LIGHTBULB_DIRECTORY` from the environment too; without them they use the installation in
`--data` (`LIGHTBULB_DATA`) and its directory. `lightbulb directory check` reads `LIGHTBULB_DIRECTORY` and `LIGHTBULB_DEPLOYMENT`. How to
deploy: [deploy.md](deploy.md). Limits of intake that are not settings: [limits.md](limits.md).
"""


def generated() -> str:
    """Return the page."""
    return page("services/runtime/settings.py", [HEAD, *table(("setting", "default", "meaning"), _rows())])


def _rows() -> Iterator[tuple[str, str, str]]:
    for name, field in Settings.model_fields.items():
        default = "required" if field.default is PydanticUndefined else _shown(field.default)
        yield f"`LIGHTBULB_{name.upper()}`", default, f"{field.description}"


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        default = " ".join(default)
    return "" if default is None else f"`{str(default).replace(str(CHECKOUT) + '/', '')}`"
