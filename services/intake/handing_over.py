"""The second pass over a council's file: its rows are read back in order, translated, committed in windows, and reported."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from services.intake import limits, receive, uploads
from services.intake.answers import rows as answers
from services.intake.batching import Unavailable
from services.intake.ledger import Answer, Arrival
from services.intake.receive import Intake, Protocol
from services.intake.translators import council_csv
from services.intake.translators.contract import Delivery, Fault, Refusal, Translated, Translator
from services.intake.translators.council_csv import CouncilMapping
from services.intake.translators.council_csv.header import Layout
from services.intake.translators.council_csv.rows import Record, Splitter, is_blank
from services.intake.translators.council_csv.survey import Survey, given_reference, stands_for
from services.intake.uploads import State, Upload
from services.messaging import database, tracing
from services.messaging.telemetry import log
from services.messaging.tracing import NONE, Span
from services.partners import Partner

FORMAT = "council-csv"
BREATH = 20
"""Rows that are translated before others get their turn."""

Entry = Mapping[str, Any]
"""What the report says of one row."""


@dataclass
class HandingOver:
    """One file on its way. `begun` gives the pieces of the report."""

    intake: Intake
    engine: AsyncEngine
    upload: Upload
    partner: Partner
    mapping: CouncilMapping
    survey: Survey
    report: answers.Report
    traceparent: str | None = None
    summary: answers.Summary = field(default_factory=answers.Summary)
    _state: State = "broken-off"
    _span: Span = NONE

    async def begun(self) -> AsyncGenerator[bytes, None]:
        """The report's pieces, once its first rows are committed; raises what keeps those from it, so that 503 can be said."""
        pieces = self._pieces()
        return _led_by(await anext(pieces), pieces)

    @cached_property
    def _layout(self) -> Layout:
        assert self.survey.layout is not None
        return self.survey.layout

    @cached_property
    def _translate(self) -> Translator:
        return council_csv.translator(self.mapping)

    # -- the report

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        self._span = self._reading()
        try:
            twice = await self._twice_and_different()
            begin = self.report.begin(self.survey.above)
            async for piece in self._windows_told(twice):
                yield begin + piece
                begin = b""
            yield begin + self.report.end(self.summary)
            self._state = "reported" if self.summary.is_complete else "broken-off"
        finally:
            await self._note()
            self._span.tell(outcome=self._state, records=self.survey.rows)
            self._span.end()

    def _reading(self) -> Span:
        """The file's own step. Its rows are many people's: each begins a trace of its own, which names this one."""
        return tracing.begin(
            "read file",
            self.traceparent,
            "server",
            partner=self.partner.id,
            format=FORMAT,
            correlation_id=self.upload.correlation_id,
        )

    async def _windows_told(self, twice: Mapping[str, Sequence[int]]) -> AsyncGenerator[bytes, None]:
        """The report of each window; where the database goes away in the middle, or we do, of the rows that were not processed."""
        told = 0
        try:
            async for window in self._windows():
                if self.intake.stopping.is_set():
                    raise Unavailable
                entries = await self._told(window, twice)
                if not told and all(one["outcome"] == "not-processed" for one in entries):
                    raise Unavailable
                told += len(window)
                yield self._as_pieces(entries, window)
                if entries[-1]["outcome"] == "not-processed":
                    break
        except Exception as error:
            if not told or not (isinstance(error, Unavailable) or database.is_transient(error)):
                raise
            log.warning("upload_interrupted", partner=self.partner.id, reason=database.reason_class(error))
        for begins in range(told, self.survey.rows, limits.WINDOW_ROWS):
            lines = self.survey.lines[begins : begins + limits.WINDOW_ROWS]
            yield self._as_pieces([answers.entry(line, None, "not-processed") for line in lines], ())

    def _as_pieces(self, entries: Sequence[Entry], window: Sequence[Record]) -> bytes:
        bodies: list[bytes | None] = [record.body for record in window] or [None] * len(entries)
        for said in entries:
            self.summary.add(said)
        return b"".join(self.report.row(said, body) for said, body in zip(entries, bodies, strict=True))

    async def _note(self) -> None:
        """What became of the file; where that cannot be written, its state says that it was not finished."""
        try:
            await uploads.ended(self.engine, self.upload, self._state, self.summary.as_json())
        except Exception as error:
            log.warning("upload_state_not_saved", reason=database.reason_class(error))

    # -- rows

    async def _records(self) -> AsyncIterator[Record]:
        """The rows of the file, but for blank ones."""
        splitter, above = Splitter(self.mapping.file), len(self.survey.above)
        async with aclosing(uploads.parts(self.engine, self.upload)) as parts:
            async for part in parts:
                for record in splitter.feed(part):
                    if above:
                        above -= 1
                    elif not is_blank(record, self.mapping.file):
                        yield record
        for record in splitter.feed(b"", last=True):
            if not above and not is_blank(record, self.mapping.file):
                yield record

    async def _windows(self) -> AsyncIterator[list[Record]]:
        window: list[Record] = []
        async for record in self._records():
            window.append(record)
            if len(window) == limits.WINDOW_ROWS:
                yield window
                window = []
        if window:
            yield window

    async def _twice_and_different(self) -> dict[str, list[int]]:
        """References that stand twice in the file with different content, and on which lines."""
        candidates = self.survey.twice()
        if not candidates:
            return {}
        lines: dict[str, list[int]] = {}
        first: dict[str, str] = {}
        different: set[str] = set()
        async for number, record in _numbered(self._records()):
            given = self._given(record)
            if given is not None and stands_for(given) in candidates:
                lines.setdefault(given, []).append(record.line)
                content = _content(self._translate(self._delivery(record)), record)
                if first.setdefault(given, content) != content:
                    different.add(given)
            if number % BREATH == 0:
                await asyncio.sleep(0)
        return {given: lines[given][:5] for given in different}

    async def _told(self, window: Sequence[Record], twice: Mapping[str, Sequence[int]]) -> list[Entry]:
        """What became of these rows, each committed or not processed."""
        arrivals: list[Arrival] = []
        given: list[str | None] = []
        for number, record in enumerate(window, start=1):
            arrival, reference = self._arrival(record, twice)
            arrivals.append(arrival)
            given.append(reference)
            if number % BREATH == 0:
                await asyncio.sleep(0)
        with tracing.Steps([arrival.span for arrival in arrivals]):
            answered = await self._committed(arrivals)
        return [
            orjson.loads(answer.body) if answer else answers.entry(record.line, reference, "not-processed")
            for answer, record, reference in zip(answered, window, given, strict=True)
        ]

    def _arrival(self, record: Record, twice: Mapping[str, Sequence[int]]) -> tuple[Arrival, str | None]:
        """A row as a message, and the reference that it gives."""
        delivery = self._delivery(record)
        outcome = self._translate(delivery)
        given = outcome.referral_id if isinstance(outcome, Translated) else self._given(record)
        if given is not None and given in twice:
            outcome = Refusal((self._stands_twice(twice[given]),))
        compose = answers.row_answer(self.mapping, record.line, given)
        protocol = Protocol(FORMAT, lambda _: outcome, lambda _, __, decision: compose(decision))
        span = receive.receiving(protocol, delivery, link=self._span.traceparent)
        return receive.arrival(protocol, delivery, self.upload.media_type, kept_elsewhere=True, span=span), given

    def _given(self, record: Record) -> str | None:
        return given_reference(self.mapping, self._layout, record.body)

    def _stands_twice(self, lines: Sequence[int]) -> Fault:
        where = ", ".join(map(str, lines))
        explanation = f"stands in this file more than once with different content (lines {where}): send it once"
        return Fault(self.mapping.reference, "invariant", explanation)

    def _delivery(self, record: Record) -> Delivery:
        return Delivery(
            partner=self.partner,
            body=self._layout.bytes + record.body,
            received_at=self.upload.received_at,
            attachment_key=self.intake.attachment_key,
            correlation_id=self.upload.correlation_id,
        )

    async def _committed(self, arrivals: Sequence[Arrival]) -> list[Answer | None]:
        """The answer to each, once it is committed; none where that could not be, also after some patience."""
        found: dict[int, Answer] = {}
        async with self.intake.windows:
            for pause in (0.0, *limits.ROW_PAUSES):
                left = [at for at in range(len(arrivals)) if at not in found]
                await asyncio.sleep(pause if left else 0)
                submitted = (self.intake.batching.submit(arrivals[at]) for at in left)
                for at, answer in zip(left, await asyncio.gather(*submitted, return_exceptions=True), strict=True):
                    if isinstance(answer, Answer):
                        found[at] = answer
                    elif not isinstance(answer, Unavailable):
                        raise answer
        return [found.get(at) for at in range(len(arrivals))]


def _content(outcome: Translated | Refusal, record: Record) -> str:
    return outcome.content_hash if isinstance(outcome, Translated) else repr(record.body)


async def _numbered(records: AsyncIterator[Record]) -> AsyncIterator[tuple[int, Record]]:
    number = 0
    async for record in records:
        number += 1
        yield number, record


async def _led_by(first: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pieces):
        yield first
        async for piece in pieces:
            yield piece
