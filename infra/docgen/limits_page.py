"""Generate docs/limits.md from services/intake/limits.py: every limit, its purpose, and what a sender gets beyond it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from infra.docgen.markdown import page, table
from services.intake import limits
from services.runtime.settings import CHECKOUT, Settings

SOURCE = CHECKOUT / "services" / "intake" / "limits.py"

SETTINGS = {
    "max_body_bytes": "413; over MLLP AR (CR), and the next message is read. Nothing of the message is stored",
    "keep_alive_seconds": "the connection is closed",
    "messages_per_second": "429 over HTTP; over MLLP the message waits, and nothing is refused. ADT over MLLP has a rate of its own",
}
"""Limits that an installation sets, and the response beyond them."""

HEAD = """# Limits of intake

What intake accepts from a sender, and the response beyond each limit: always one of the sender's own protocol. BaRS senders get an
OperationOutcome with a BaRS error code; other HTTP senders get problem details (RFC 9457); MLLP senders get an acknowledgement, or
none if nothing can be promised. Responses 408, 429 and 503 name in `Retry-After` when to try again; sending again is always safe.
Nothing is stored of a message that is incomplete or was answered 401, 406, 413, 414, 415, 429 or 431, unless a row below states
otherwise: such messages are only counted (`lightbulb_messages_total`, `lightbulb_mllp_messages_total`,
`lightbulb_http_responses_total`). After 408 and 503 the message may have been stored or not; a repeat is recognised. The maximum
lengths of a referral's texts and lists are in [referral.schema.json](../schemas/contracts/referral.schema.json); the statuses of
each address are in `GET /openapi.json`.
"""


@dataclass(frozen=True)
class Limit:
    """One constant: its section, its value and its docstring."""

    section: str
    name: str
    value: Any
    description: str

    @property
    def shown(self) -> str:
        """The value with its unit, which is taken from the end of the name."""
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        return ", ".join(_with_unit(self.name, value) for value in values)


def _with_unit(name: str, value: float) -> str:
    if name.endswith("_BYTES"):
        return f"{value // 1024**2} MiB" if value >= 1024**2 else f"{value:,} bytes"
    return f"{value:,g} s" if name.endswith(("_SECONDS", "_PAUSES")) else f"{value:,}"


def declared() -> Iterator[Limit]:
    """Yield every limit, in order. Raise ValueError for a constant without a docstring."""
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
    """Return the page."""
    all_limits = list(declared())
    lines = [HEAD, "## Set by the installation", "", *table(COLUMNS, _settings())]
    for section in dict.fromkeys(limit.section for limit in all_limits):
        rows = [_row(limit) for limit in all_limits if limit.section == section]
        lines += [f"## {section[0].upper()}{section[1:]}", "", *table(COLUMNS, rows)]
    return page("services/intake/limits.py", lines)


COLUMNS = ("limit", "value", "meaning", "response beyond it")


def _settings() -> Iterator[tuple[str, ...]]:
    for name, beyond in SETTINGS.items():
        field = Settings.model_fields[name]
        yield f"`LIGHTBULB_{name.upper()}`", f"{field.default:,}", f"{field.description}", beyond


def _row(limit: Limit) -> tuple[str, ...]:
    what, _, beyond = limit.description.partition(" Beyond: ")
    return f"`{limit.name}`", limit.shown, what, beyond.rstrip(".")
