"""Responses to councils: a report on each row, as JSON or as the council's file with three more columns."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

import orjson

from schemas.dates import LONDON
from services.intake.batch import MessageDecision, ProtocolResponse
from services.intake.deduplication import Verdict
from services.intake.responses import problems
from services.intake.translators.council_csv import CouncilMapping
from services.intake.translators.council_csv import record_splitter as records_of
from services.intake.translators.council_csv.cells import neutral
from services.intake.translators.council_csv.header import without_mark
from services.intake.translators.council_csv.row_translator import withdrawn_but_not_held
from services.intake.translators.translator import Issue, Rejection

JSON, CSV = "application/json", "text/csv"

RowOutcome = Literal[
    "received",
    "updated",
    "already-held",
    "superseded",
    "cancelled",
    "not-applied",
    "not-held",
    "refused",
    "not-processed",
]
OUTCOMES: tuple[RowOutcome, ...] = get_args(RowOutcome)

_OF_VERDICT: Mapping[str, tuple[int, RowOutcome]] = {
    Verdict.RECEIVED: (202, "received"),
    Verdict.UPDATED: (200, "updated"),
    Verdict.REPEAT: (200, "already-held"),
    Verdict.STALE: (200, "superseded"),
    Verdict.CANCELLED: (200, "cancelled"),
    Verdict.NOT_APPLIED: (202, "not-applied"),
    Verdict.UNKNOWN: (404, "not-held"),
}

COLUMNS = ("lightbulb_reference", "lightbulb_outcome", "lightbulb_warnings")
DRY_RUN_COLUMNS = ("lightbulb_reference", "lightbulb_dry_run_outcome", "lightbulb_warnings")

NOTE_HEADER = "Lightbulb-Note"
"""Header of a CSV report: the notes on the file."""

INTERRUPTED = (
    "NOT COMPLETE: the rows that are not-processed were not accepted. Send the whole file again; "
    "rows that were accepted will be already-held"
)

INTERRUPTED_DRY_RUN = (
    "NOT COMPLETE: the rows that are not-processed were not checked. No row was accepted: this is a dry run"
)


def row_responder(
    mapping: CouncilMapping, line: int, source_reference: str | None
) -> Callable[[MessageDecision], ProtocolResponse]:
    """Return the function that composes a row's report entry from the decision."""

    def compose(decision: MessageDecision) -> ProtocolResponse:
        status, outcome = _OF_VERDICT.get(decision.verdict, (400, "refused"))
        if decision.verdict == Verdict.UNKNOWN and decision.withdraws:
            status, outcome = 422, "refused"
        is_taken = outcome not in ("refused", "not-held")
        faults = () if is_taken else _faults(mapping, decision)
        row = entry(
            line,
            source_reference,
            outcome,
            decision.reference if is_taken else None,
            faults,
            decision.issues if is_taken else (),
        )
        return ProtocolResponse(status, orjson.dumps(row))

    return compose


def _faults(mapping: CouncilMapping, decision: MessageDecision) -> Sequence[Issue]:
    """Return why a row was not taken. A translated row has warnings only: what refused it is the verdict."""
    match decision.verdict:
        case Verdict.UNKNOWN:
            return (withdrawn_but_not_held(mapping),) if decision.withdraws else ()
        case Verdict.OTHER_PERSON:
            return (Issue(mapping.reference, "business-rule", problems.OTHER_PERSON),)
        case _:
            return decision.issues


def entry(
    line: int,
    source_reference: str | None,
    outcome: RowOutcome,
    reference: str | None = None,
    faults: Sequence[Issue] = (),
    warnings: Sequence[Issue] = (),
) -> dict[str, Any]:
    """Return the report's entry of one row. `line` is the line of the file on which the row begins."""
    return {
        "row": line,
        "reference_given": source_reference,
        "outcome": outcome,
        "reference": reference,
        "faults": [_by_column(one) for one in faults],
        "warnings": [_by_column(one) for one in warnings],
    }


def _by_column(issue: Issue) -> dict[str, str]:
    return {"column": issue.place, "kind": issue.kind, "explanation": issue.explanation}


def refused(mapping: CouncilMapping, rejection: Rejection) -> ProtocolResponse:
    """Return the response to a refused file: its issues, and the expected columns."""
    column_issues = [_by_column(one) for one in rejection.issues]
    status = 413 if rejection.has("too-long") else 400
    detail = f"no row of the file was accepted: the {rejection.issues[0].place} {rejection.issues[0].explanation}"
    return problems.problem(status, detail, faults=column_issues, expected_columns=list(mapping.headers.values()))


class Summary:
    """The number of rows by outcome."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, row_entry: Mapping[str, Any]) -> None:
        """Count one row."""
        self.counts[row_entry["outcome"]] += 1

    def as_json(self) -> dict[str, int]:
        """Return the total and the number of every outcome."""
        return {"rows": self.counts.total(), **{outcome: self.counts[outcome] for outcome in OUTCOMES}}

    @property
    def is_complete(self) -> bool:
        """True if every row was processed."""
        return not self.counts["not-processed"]


class FileNote(NamedTuple):
    """What is remarkable of a file as a whole; it does not keep a row from being accepted."""

    kind: str
    explanation: str


def fewer_rows(rows: int, last_rows: int, last_received_at: datetime) -> FileNote:
    """Return the note of a file that has far fewer rows than the last one."""
    last = f"that of the last file, of {last_received_at.astimezone(LONDON):%Y-%m-%d}, was {last_rows}"
    return FileNote("fewer-rows", f"the number of rows is {rows}; {last}: check that the export is complete")


class AsJson:
    """The report as JSON, with a row on each line, so that a client can show progress."""

    def __init__(self, mapping: CouncilMapping, *, dry_run: bool = False, notes: Sequence[FileNote] = ()) -> None:
        head = orjson.dumps({"council": mapping.council, "dry_run": dry_run})
        self.headers: Mapping[str, str] = {"Content-Type": JSON}
        self._begin = head[:-1] + b', "rows": ['
        self._between = b"\n"
        self._interrupted = INTERRUPTED_DRY_RUN if dry_run else INTERRUPTED
        self._notes = notes

    def begin(self, _: Sequence[bytes]) -> bytes:
        return self._begin

    def row(self, row_entry: Mapping[str, Any], _: bytes | None) -> bytes:
        piece = self._between + orjson.dumps(row_entry)
        self._between = b",\n"
        return piece

    def end(self, summary: Summary) -> bytes:
        """Return the end of the report: whether it is complete, what to do if not, notes, and the counts."""
        trailer: dict[str, Any] = {"complete": summary.is_complete}
        if not summary.is_complete:
            trailer["attention"] = self._interrupted
        if self._notes:
            trailer["notes"] = [note._asdict() for note in self._notes]
        trailer["summary"] = summary.as_json()
        return b"],\n" + orjson.dumps(trailer)[1:] + b"\n"


class AsCsv:
    """The report as the council's file with three more columns. A spreadsheet executes none of its cells.

    Notes are in a header. The outcome's column has another name in a dry run.
    """

    def __init__(self, mapping: CouncilMapping, *, dry_run: bool = False, notes: Sequence[FileNote] = ()) -> None:
        self._mapping = mapping
        charset = "utf-8" if mapping.file.codec == "utf-8" else "windows-1252"
        noted = {NOTE_HEADER: "; ".join(note.explanation for note in notes)} if notes else {}
        self.headers = {"Content-Type": f"{CSV}; charset={charset}; header=present", **noted}
        self._columns = DRY_RUN_COLUMNS if dry_run else COLUMNS
        self._width = 0

    def begin(self, records: Sequence[bytes]) -> bytes:
        """Return the lines above the first row: the byte order mark, titles, the header with three more columns."""
        *above, header = [records_of.read(without_mark(record), self._mapping.file) or [] for record in records]
        self._width = len(header)
        mark = b"\xef\xbb\xbf" if self._mapping.file.encoding == "utf-8-bom" else b""
        return mark + b"".join(self._line(cells) for cells in above) + self._line([*header, *self._columns])

    def row(self, row_entry: Mapping[str, Any], body: bytes | None) -> bytes:
        """Return a row as it was sent, followed by reference, outcome and warnings; cells that cannot be read are left empty."""
        cells = (records_of.read(body, self._mapping.file) if body else None) or []
        own = [*cells[: self._width], *[""] * (self._width - len(cells))]
        added = (row_entry["reference"] or "", _outcome_text(row_entry), _listed(row_entry["warnings"]))
        return self._line([*own, *added])

    def end(self, _: Summary) -> bytes:
        return b""

    def _line(self, cells: Sequence[str]) -> bytes:
        file = self._mapping.file
        written = io.StringIO(newline="")
        if file.quoting == "double":
            csv.writer(written, delimiter=file.separator).writerow([neutral(cell) for cell in cells])
        else:
            plain = [" ".join(neutral(cell).replace(file.separator, " ").split()) for cell in cells]
            written.write(file.separator.join(plain) + "\r\n")
        return written.getvalue().encode(file.codec, "replace")


def _outcome_text(row_entry: Mapping[str, Any]) -> str:
    """Return the outcome, with the issues by column."""
    issues = _listed(row_entry["faults"])
    if row_entry["outcome"] == "not-processed":
        return f"not-processed: row of line {row_entry['row']}; send the file again"
    return f"{row_entry['outcome']}: {issues}" if issues else str(row_entry["outcome"])


def _listed(issues: Sequence[Mapping[str, str]]) -> str:
    return "; ".join(f"{issue['column']}: {issue['explanation']}" for issue in issues)


Report = AsJson | AsCsv


def report(
    mapping: CouncilMapping, media_type: str, *, dry_run: bool = False, notes: Sequence[FileNote] = ()
) -> Report:
    """Return the report writer for a media type."""
    writer = AsCsv if media_type == CSV else AsJson
    return writer(mapping, dry_run=dry_run, notes=notes)
