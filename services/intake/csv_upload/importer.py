"""Import a stored file: read its rows in order, translate them, commit them in windows, and report on each."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import orjson
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import accept, limits
from services.intake.accept import Intake, Protocol
from services.intake.batch import PendingMessage, ProtocolResponse
from services.intake.csv_upload import upload_store
from services.intake.csv_upload.dry_run import DryRun
from services.intake.csv_upload.upload_store import State, Upload
from services.intake.group_commit import Unavailable
from services.intake.responses import csv_report as answers
from services.intake.translators import council_csv
from services.intake.translators.council_csv import CouncilMapping, workbook
from services.intake.translators.council_csv.header import HeaderLayout
from services.intake.translators.council_csv.prescan import Prescan, reference_hash, reference_of
from services.intake.translators.council_csv.record_splitter import CsvRecord, Splitter, is_blank
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import Issue, Rejection, Translated
from services.reference.partners import Partner
from services.runtime import database, tracing
from services.runtime.logs import log

FORMAT = "council-csv"
BREATH = 20
"""Rows that are translated before the event loop runs other tasks."""

ReportEntry = Mapping[str, Any]
"""The report's entry of one row."""


@dataclass
class CsvImport:
    """The import of one stored file. `begun` returns the report in chunks."""

    intake: Intake
    engine: AsyncEngine
    upload: Upload
    partner: Partner
    mapping: CouncilMapping
    prescan: Prescan
    report: answers.Report
    traceparent: str | None = None
    judging: DryRun | None = None
    summary: answers.Summary = field(default_factory=answers.Summary)
    _state: State = "broken-off"
    _span: Span = INVALID_SPAN

    async def begun(self) -> AsyncGenerator[bytes, None]:
        """Return the report in chunks, after the first rows are committed.

        Raises if they cannot be committed, so that an error status can still be sent.
        """
        pieces = self._pieces()
        return _led_by(await anext(pieces), pieces)

    @cached_property
    def _layout(self) -> HeaderLayout:
        assert self.prescan.layout is not None
        return self.prescan.layout

    @cached_property
    def _translate(self) -> Translator:
        return council_csv.translator(self.mapping, self._layout)

    # -- the report

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        self._span = self._reading()
        try:
            with self._workbook_memory():
                conflicting = await self._conflicting_references()
                begin = self.report.begin(self.prescan.above)
                async for piece in self._report_chunks(conflicting):
                    yield begin + piece
                    begin = b""
                yield begin + self.report.end(self.summary)
            self._state = "reported" if self.summary.is_complete else "broken-off"
        finally:
            await self._note()
            tracing.set_attributes(self._span, outcome=self._state, records=self.prescan.rows)
            tracing.end(self._span)

    def _workbook_memory(self) -> AbstractContextManager[None]:
        return self.intake.memory_budget.reserve_workbook() if self.prescan.is_workbook else nullcontext()

    def _reading(self) -> Span:
        """Begin the span of the file. Its rows are about many people: each begins a new trace with a link to this span."""
        return tracing.begin(
            "read file",
            self.traceparent,
            SpanKind.SERVER,
            partner=self.partner.id,
            format=FORMAT,
            correlation_id=self.upload.correlation_id,
        )

    async def _report_chunks(self, conflicting: Mapping[str, Sequence[int]]) -> AsyncGenerator[bytes, None]:
        """Yield the report of each window.

        If the database becomes unavailable or the service stops after the first window, report the rest as not processed.
        """
        reported = 0
        try:
            async for window in self._windows():
                if self.intake.stopping.is_set():
                    raise Unavailable
                entries = await self._process_window(window, conflicting)
                if not reported and all(one["outcome"] == "not-processed" for one in entries):
                    raise Unavailable
                reported += len(window)
                yield self._as_pieces(entries, window)
                if entries[-1]["outcome"] == "not-processed":
                    break
        except Exception as error:
            if not reported or not (isinstance(error, Unavailable) or database.is_transient(error)):
                raise
            log.warning("upload_interrupted", partner=self.partner.id, reason=database.reason_class(error))
        for begins in range(reported, self.prescan.rows, limits.WINDOW_ROWS):
            lines = self.prescan.lines[begins : begins + limits.WINDOW_ROWS]
            yield self._as_pieces([answers.entry(line, None, "not-processed") for line in lines], ())

    def _as_pieces(self, entries: Sequence[ReportEntry], window: Sequence[CsvRecord]) -> bytes:
        bodies: list[bytes | None] = [record.body for record in window] or [None] * len(entries)
        for entry in entries:
            self.summary.add(entry)
        return b"".join(self.report.row(entry, body) for entry, body in zip(entries, bodies, strict=True))

    async def _note(self) -> None:
        """Store the final state and the counts; delete a dry run. If that fails, the file keeps its state."""
        try:
            if self.judging:
                await upload_store.forget(self.engine, self.upload)
                return
            await upload_store.ended(self.engine, self.upload, self._state, self.summary.as_json())
        except Exception as error:
            log.warning("upload_state_not_saved", reason=database.reason_class(error))

    # -- rows

    async def _records(self) -> AsyncIterator[CsvRecord]:
        """Yield the rows of the file that are not blank."""
        above = len(self.prescan.above)
        async for record in self._of_workbook() if self.prescan.is_workbook else self._of_csv():
            if above:
                above -= 1
            elif not is_blank(record, self.mapping.file):
                yield record

    async def _of_csv(self) -> AsyncIterator[CsvRecord]:
        splitter = Splitter(self.mapping.file)
        async with aclosing(upload_store.parts(self.engine, self.upload)) as parts:
            async for part in parts:
                for record in splitter.feed(part):
                    yield record
        for record in splitter.feed(b"", last=True):
            yield record

    async def _of_workbook(self) -> AsyncIterator[CsvRecord]:
        """Yield the header and the rows of a workbook; it is read in a thread, a window at a time."""
        async with aclosing(upload_store.parts(self.engine, self.upload)) as parts:
            content = b"".join([part async for part in parts])
        records = workbook.records(content, self.mapping)
        while window := await asyncio.to_thread(lambda: list(islice(records, limits.WINDOW_ROWS))):
            for record in window:
                yield record

    async def _windows(self) -> AsyncIterator[list[CsvRecord]]:
        window: list[CsvRecord] = []
        async for record in self._records():
            window.append(record)
            if len(window) == limits.WINDOW_ROWS:
                yield window
                window = []
        if window:
            yield window

    async def _conflicting_references(self) -> dict[str, list[int]]:
        """Return the references of several rows with different content, with the lines of the first five rows."""
        candidates = self.prescan.repeated()
        if not candidates:
            return {}
        lines: dict[str, list[int]] = {}
        first: dict[str, str] = {}
        different: set[str] = set()
        async for number, record in _numbered(self._records()):
            reference = self._reference_of(record)
            if reference is not None and reference_hash(reference) in candidates:
                lines.setdefault(reference, []).append(record.line)
                content = _content(self._translate(self._inbound(record)), record)
                if first.setdefault(reference, content) != content:
                    different.add(reference)
            if number % BREATH == 0:
                await asyncio.sleep(0)
        return {reference: lines[reference][:5] for reference in different}

    async def _process_window(
        self, window: Sequence[CsvRecord], conflicting: Mapping[str, Sequence[int]]
    ) -> list[ReportEntry]:
        """Translate and commit these rows, or judge them in a dry run. Return their report entries."""
        messages: list[PendingMessage] = []
        references: list[str | None] = []
        for number, record in enumerate(window, start=1):
            message, reference = self._to_message(record, conflicting)
            messages.append(message)
            references.append(reference)
            if number % BREATH == 0:
                await asyncio.sleep(0)
        with tracing.ending(*(message.span for message in messages)):
            answered = await (self.judging.judge(messages) if self.judging else self._committed(messages))
        return [
            orjson.loads(answer.body) if answer else answers.entry(record.line, reference, "not-processed")
            for answer, record, reference in zip(answered, window, references, strict=True)
        ]

    def _to_message(
        self, record: CsvRecord, conflicting: Mapping[str, Sequence[int]]
    ) -> tuple[PendingMessage, str | None]:
        """Return a row as a message, and the reference in it."""
        inbound = self._inbound(record)
        outcome = self._translate(inbound)
        reference = outcome.referral_id if isinstance(outcome, Translated) else self._reference_of(record)
        if reference is not None and reference in conflicting:
            outcome = Rejection((self._duplicate_issue(conflicting[reference]),))
        elif doubt := self.prescan.uncertain.get(record.line):
            outcome = Rejection((doubt,))
        compose = answers.row_responder(self.mapping, record.line, reference)
        protocol = Protocol(FORMAT, lambda _: outcome, lambda _, __, decision: compose(decision))
        span = INVALID_SPAN if self.judging else accept.receive_span(protocol, inbound, link=self._span)
        return accept.translate(protocol, inbound, self.upload.media_type, stored_in_upload=True, span=span), reference

    def _reference_of(self, record: CsvRecord) -> str | None:
        return reference_of(self.mapping, self._layout, record.body)

    def _duplicate_issue(self, lines: Sequence[int]) -> Issue:
        where = ", ".join(map(str, lines))
        explanation = f"occurs in this file more than once with different content (lines {where}): send it once"
        return Issue(self.mapping.reference, "invariant", explanation)

    def _inbound(self, record: CsvRecord) -> InboundMessage:
        return InboundMessage(
            partner=self.partner,
            body=self._layout.bytes + record.body,
            received_at=self.upload.received_at,
            attachment_key=self.intake.attachment_key,
            correlation_id=self.upload.correlation_id,
            fillers=self.intake.fillers,
        )

    async def _committed(self, messages: Sequence[PendingMessage]) -> list[ProtocolResponse | None]:
        """Return the response to each message after its commit, or None if it could not be committed after the last retry."""
        committed: dict[int, ProtocolResponse] = {}
        async with self.intake.windows:
            for pause in (0.0, *limits.ROW_PAUSES):
                left = [at for at in range(len(messages)) if at not in committed]
                await asyncio.sleep(pause if left else 0)
                submitted = (self.intake.group_commit.enqueue(messages[at]) for at in left)
                for at, answer in zip(left, await asyncio.gather(*submitted, return_exceptions=True), strict=True):
                    if isinstance(answer, ProtocolResponse):
                        committed[at] = answer
                    elif not isinstance(answer, Unavailable):
                        raise answer
        return [committed.get(at) for at in range(len(messages))]


def _content(outcome: Translated | Rejection, record: CsvRecord) -> str:
    return outcome.content_hash if isinstance(outcome, Translated) else repr(record.body)


async def _numbered(records: AsyncIterator[CsvRecord]) -> AsyncIterator[tuple[int, CsvRecord]]:
    number = 0
    async for record in records:
        number += 1
        yield number, record


async def _led_by(first: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        yield first
        async for piece in pieces:
            yield piece
