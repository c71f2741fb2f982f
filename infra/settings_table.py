"""The README's table of settings, made from the code. `python -m infra.settings_table` prints it."""

from collections.abc import Iterator

from pydantic_core import PydanticUndefined

from services.messaging.settings import CHECKOUT, Settings


def lines() -> Iterator[str]:
    """The table in Markdown, a line each."""
    yield "| setting | default | what it says |"
    yield "|---|---|---|"
    for name, field in Settings.model_fields.items():
        default = "required" if field.default is PydanticUndefined else _shown(field.default)
        yield f"| `LIGHTBULB_{name.upper()}` | {default} | {field.description} |"


def _shown(default: object) -> str:
    return "" if default is None else f"`{str(default).replace(str(CHECKOUT) + '/', '')}`"


if __name__ == "__main__":
    print("\n".join(lines()))  # noqa: T201 - printing is what it is for
