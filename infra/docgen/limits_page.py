"""docs/limits.md, made from services/intake/limits.py: every limit, what it is for, and what a sender gets beyond it.

python -m infra.docgen.limits_page            # write the page, then commit it
python -m infra.docgen.limits_page --check    # exit 1 where it differs
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.docgen.partner_pages.markdown import table
from services.intake import limits
from services.runtime.settings import CHECKOUT, Settings

SOURCE = CHECKOUT / "services" / "intake" / "limits.py"
PAGE = CHECKOUT / "docs" / "limits.md"

SETTINGS = {
    "max_body_bytes": "413; over MLLP AR (CR), and the next message is read. Nothing of it is kept",
    "messages_per_second": "429 over HTTP; over MLLP the next frame is read later, and nothing is refused",
}
"""Limits that an installation sets, and what a sender gets beyond them."""

HEAD = """<!-- Made by `python -m infra.docgen.limits_page` from services/intake/limits.py. Do not change it here. -->

# Limits of intake

What is taken of a sender, and what it gets beyond that: always its protocol's own answer. BaRS senders get an OperationOutcome
with BaRS' error code, the others problem details (RFC 9457), over MLLP an acknowledgement, or none where nothing can be promised.
408, 429 and 503 say in `Retry-After` when to come again; sending again is always safe. Nothing is kept of a message that is not
whole, or that was answered 401, 406, 413, 414, 415, 429 or 431, unless it says so here: those are only counted
(`lightbulb_messages_total`, `lightbulb_mllp_messages_total`, `lightbulb_http_responses_total`). After 408 and 503 a message may
have been kept or not; a repeat is recognised. How long the texts and lists of a referral may be is in
[referral.schema.json](../schemas/contracts/referral.schema.json); the statuses of each address are in `GET /openapi.json`.
"""


@dataclass(frozen=True)
class Limit:
    """One constant: its section, its value and what its docstring says."""

    section: str
    name: str
    value: Any
    description: str

    @property
    def shown(self) -> str:
        """The value with its unit, which is the end of the name."""
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        return ", ".join(_with_unit(self.name, value) for value in values)


def _with_unit(name: str, value: float) -> str:
    if name.endswith("_BYTES"):
        return f"{value // 1024**2} MiB" if value >= 1024**2 else f"{value:,} bytes"
    return f"{value:,g} s" if name.endswith(("_SECONDS", "_PAUSES")) else f"{value:,}"


def declared() -> Iterator[Limit]:
    """Every limit, in order. Raises ValueError for a constant that nobody explained."""
    text = SOURCE.read_text(encoding="utf-8")
    sections = [(match.start(), match[1]) for match in re.finditer(r"^# ---- (.+?) -+$", text, re.M)]
    body = ast.parse(text).body
    for statement, explained in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        name = statement.targets[0].id
        if not isinstance(explained, ast.Expr) or not isinstance(explained.value, ast.Constant):
            raise ValueError(f"{name}: a docstring is expected below it")
        at = text.index(f"\n{name} = ")
        section = [title for start, title in sections if start < at][-1]
        yield Limit(section, name, getattr(limits, name), " ".join(str(explained.value.value).split()))


def generated() -> str:
    """The page as it should be."""
    all_limits = list(declared())
    lines = [HEAD, "## Set by the installation", "", *table(COLUMNS, _settings())]
    for section in dict.fromkeys(limit.section for limit in all_limits):
        rows = [_row(limit) for limit in all_limits if limit.section == section]
        lines += [f"## {section[0].upper()}{section[1:]}", "", *table(COLUMNS, rows)]
    return "\n".join(lines).rstrip("\n") + "\n"


COLUMNS = ("limit", "value", "what it is", "beyond it a sender gets")


def _settings() -> Iterator[tuple[str, ...]]:
    for name, beyond in SETTINGS.items():
        field = Settings.model_fields[name]
        yield f"`LIGHTBULB_{name.upper()}`", f"{field.default:,}", f"{field.description}", beyond


def _row(limit: Limit) -> tuple[str, ...]:
    what, _, beyond = limit.description.partition(" Beyond: ")
    return f"`{limit.name}`", limit.shown, what, beyond.rstrip(".")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: done, or nothing to say. 1: the page differs."""
    reader = argparse.ArgumentParser(prog="python -m infra.docgen.limits_page", description="Writes docs/limits.md.")
    reader.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page differs")
    if reader.parse_args(arguments).check:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != generated())
    PAGE.write_text(generated(), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
