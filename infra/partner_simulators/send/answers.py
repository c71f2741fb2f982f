"""The outcome of a sent file, and its text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from rich.markup import escape

Outcome = Literal["accepted", "duplicate", "in part", "conflict", "refused", "not allowed", "unavailable", "not sent"]


REFUSED_ROWS = frozenset({"refused", "not-processed", "not-held"})
"""Outcomes of a row that the council must correct or send again."""


class ResponseIssue(NamedTuple):
    """One fault: place, kind (for HL7 an error code), explanation."""

    place: str
    kind: str
    explanation: str

    def __str__(self) -> str:
        return " · ".join(filter(None, self))


class ReportedRow(NamedTuple):
    """A refused row of a council's file, or one with warnings: its first line and its reference."""

    number: int
    source_reference: str
    outcome: str
    issues: tuple[ResponseIssue, ...]

    def __str__(self) -> str:
        text = "; ".join(map(str, self.issues)) or self.outcome
        return f"row {self.number} ({self.source_reference or 'no reference'}) · {text}"


class UploadReport(NamedTuple):
    """A council's report: counts by outcome, refused rows, and our reference by the row's own.

    `warnings`: number of rows with warnings; they are in `warned`, as the refused ones in `rejected`, if the report was read row by row.
    """

    counts: Mapping[str, int]
    rejected: tuple[ReportedRow, ...]
    references: Mapping[str, str]
    warned: tuple[ReportedRow, ...] = ()
    warnings: int = 0

    def __str__(self) -> str:
        some = ", ".join(f"{count} {what}" for what, count in self.counts.items() if count and what != "rows")
        warned = f"; {self.warnings} with warnings" if self.warnings else ""
        return f"{self.counts.get('rows', 0)} rows: {some or 'nothing'}{warned}"

    @property
    def refused(self) -> int:
        """Number of rows that the council must correct or send again."""
        return sum(self.counts.get(outcome, 0) for outcome in REFUSED_ROWS)


class ParsedResponse(NamedTuple):
    """The content of a response in any format."""

    outcome: Outcome
    reference: str | None = None
    issues: tuple[ResponseIssue, ...] = ()
    rows: UploadReport | None = None
    by: str = ""
    """The status or acknowledgement code: `HTTP 200`, `AA`."""

    notes: tuple[str, ...] = ()
    """What is remarkable of a council's file as a whole."""

    body: bytes = b""
    media_type: str = ""


@dataclass(frozen=True)
class SendResult:
    """The outcome of one file."""

    file: Path
    format_name: str
    outcome: Outcome
    sender: str | None = None
    by: str = ""
    reference: str | None = None
    issues: tuple[ResponseIssue, ...] = field(default=())
    rows: UploadReport | None = None
    notes: tuple[str, ...] = ()
    body: bytes = b""
    media_type: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the hub has all of it, now or since before."""
        return self.outcome in ("accepted", "duplicate")

    def line(self) -> str:
        """Return text with rich markup: one line, and one for each fault or refused row."""
        colour = "green" if self.accepted else "red"
        head = f"{self.file.name}: {self.format_name}, from {self.sender or 'unknown'}: {self.by}".rstrip() + " "
        tail = f" {self.reference}" if self.reference else f" {self.rows}" if self.rows else ""
        below: list[object] = [*(f"note · {note}" for note in self.notes), *self.issues]
        if self.rows:
            below += [*self.rows.rejected, *(f"warning · {row}" for row in self.rows.warned)]
        lines = "".join(f"\n    {one}" for one in below)
        return f"{escape(head)}[{colour}]{self.outcome}[/{colour}]{escape(tail)}{escape(lines)}"
