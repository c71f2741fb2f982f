"""What became of a file that was sent, and how that reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from rich.markup import escape

Outcome = Literal["accepted", "duplicate", "in part", "conflict", "refused", "not allowed", "unavailable", "not sent"]


class ResponseIssue(NamedTuple):
    """One thing that is wrong: where, of which kind (an HL7 code, for HL7), in words."""

    place: str
    kind: str
    explanation: str

    def __str__(self) -> str:
        return " · ".join(filter(None, self))


class RejectedRow(NamedTuple):
    """A row of a council's file that was not taken, by the line where it begins and the reference that it gives."""

    number: int
    source_reference: str
    outcome: str
    issues: tuple[ResponseIssue, ...]

    def __str__(self) -> str:
        text = "; ".join(map(str, self.issues)) or self.outcome
        return f"row {self.number} ({self.source_reference or 'no reference'}) · {text}"


class UploadReport(NamedTuple):
    """A council's report: counts by outcome, the rows that were not taken, and our reference by the row's own."""

    counts: Mapping[str, int]
    rejected: tuple[RejectedRow, ...]
    references: Mapping[str, str]

    def __str__(self) -> str:
        some = ", ".join(f"{count} {what}" for what, count in self.counts.items() if count and what != "rows")
        return f"{self.counts.get('rows', 0)} rows: {some or 'nothing'}"


class ParsedResponse(NamedTuple):
    """What an answer says, whatever format it came in."""

    outcome: Outcome
    reference: str | None = None
    issues: tuple[ResponseIssue, ...] = ()
    rows: UploadReport | None = None
    by: str = ""
    """How it was said: `HTTP 200`, `AA`."""


@dataclass(frozen=True)
class SendResult:
    """What became of one file."""

    file: Path
    format_name: str
    outcome: Outcome
    sender: str | None = None
    by: str = ""
    reference: str | None = None
    issues: tuple[ResponseIssue, ...] = field(default=())
    rows: UploadReport | None = None

    @property
    def accepted(self) -> bool:
        """The hub has all of it: now, or since before."""
        return self.outcome in ("accepted", "duplicate")

    def line(self) -> str:
        """For people, with rich's markup: one line, and one for each fault or row that was not taken."""
        colour = "green" if self.accepted else "red"
        head = f"{self.file.name}: {self.format_name}, from {self.sender or 'nobody'}: {self.by}".rstrip() + " "
        tail = f" {self.reference}" if self.reference else f" {self.rows}" if self.rows else ""
        below = [*self.issues, *(self.rows.rejected if self.rows else ())]
        lines = "".join(f"\n    {one}" for one in below)
        return f"{escape(head)}[{colour}]{self.outcome}[/{colour}]{escape(tail)}{escape(lines)}"
