"""Translate one row of a council's file into a canonical referral. All faults are found at once, named by column."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from schemas.case import EndReason
from schemas.referral import Referral, ServiceCode
from services.intake import limits
from services.intake.translators import cleaning, plausibility
from services.intake.translators.council_csv.cell_parsers import NO_REFERENCE, OF_KIND
from services.intake.translators.council_csv.cells import ValueWithWarnings, clean, fold
from services.intake.translators.council_csv.dates import WrittenTime, short_year
from services.intake.translators.council_csv.mapping import ColumnMapping, CouncilMapping, Need
from services.intake.translators.council_csv.targets import CANCELS, FEEDS, CellKind
from services.intake.translators.form.fields import ParseError
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import (
    CONSENT_REFUSED,
    CancelReason,
    Issue,
    IssueKind,
    Rejection,
    Subject,
    Translated,
    cancel_hash,
    content_hash,
    death_report,
    fhir_path,
    issues_of,
    mark_no_fixed_abode,
    set_path,
)

_CONSENT = "consents.referral.answer"

SHORT_YEAR = "has a year of two digits that may be of two centuries: write the year with four digits"

_today = lru_cache(maxsize=16)(plausibility.today)
"""The day of receipt in London, which all rows of a file have in common."""


def read(mapping: CouncilMapping, cells: dict[str, str], inbound: InboundMessage) -> Translated | Rejection:
    """Translate a row; `cells` by the mapping's headers."""
    row = _Row(mapping, inbound)
    for header, cell in cells.items():
        column = mapping.columns[header]
        if cell or column.required:
            row.read(header, column, cell)
    return row.cancelled() if row.cancel_reason else row.referral()


class _Row:
    """The values and faults of a row."""

    def __init__(self, mapping: CouncilMapping, inbound: InboundMessage) -> None:
        self._mapping = mapping
        self._inbound = inbound
        self._fillers = inbound.fillers
        self._content: dict[str, Any] = {}
        self._needs: dict[ServiceCode, list[str]] = {}
        self._flags: dict[str, str] = {}
        self._issues: list[Issue] = []
        self._warnings: list[Issue] = []
        self._reference: str | None = None
        self._sent: WrittenTime | None = None
        self._today = _today(inbound.received_at)
        self._postcode: tuple[str, str] | None = None
        self._status_reason: CancelReason | None = None
        self._consent_denied = False
        self._ask(mapping.needs)
        for place, value in mapping.constants.items():
            set_path(self._content, place, value)

    # -- cells

    def read(self, header: str, column: ColumnMapping, cell: str) -> None:
        """Parse one cell into its place."""
        text = clean(cell, column.reading) if cell else ""
        if isinstance(text, ParseError):
            self._refuse(header, text)
        elif not text or self._mapping.file.is_nothing(text):
            self._leave_out(header, column)
        elif column.is_name and self._is_no_name(text):
            self._leave_out(header, column, plausibility.FILLER_NAME)
        else:
            value = OF_KIND[column.kind](text, column, self._mapping.file)
            if isinstance(value, ValueWithWarnings):
                self._warn(header, value.warnings)
                value = value.value
            if column.reading != "code" and (spoilt := cleaning.warnings(cell)):
                self._warn(header, spoilt)
            if isinstance(value, ParseError):
                self._refuse(header, value)
            else:
                self._keep(header, column, value, text)

    def _leave_out(self, header: str, column: ColumnMapping, warning: str | None = None) -> None:
        """Take a cell as not given."""
        if column.required:
            self._add_issue(header, "required", "is required")
        elif warning:
            self._warn(header, (warning,))

    def _keep(self, header: str, column: ColumnMapping, value: Any, text: str) -> None:
        if keep := _KEEP.get(column.kind):
            keep(self, header, column, value, text)
        else:
            self._keep_in_place(column, value)

    def _keep_reference(self, header: str, column: ColumnMapping, value: str, text: str) -> None:
        if self._fillers.is_name(text):
            self._refuse(header, NO_REFERENCE)
        else:
            self._reference = value

    def _keep_status(self, header: str, column: ColumnMapping, value: str, text: str) -> None:
        self._status_reason = CANCELS.get(value)

    def _keep_needs(self, header: str, column: ColumnMapping, value: Sequence[Need], text: str) -> None:
        self._ask(value)

    def _keep_flags(self, header: str, column: ColumnMapping, value: Sequence[tuple[str, str]], text: str) -> None:
        self._flags |= dict(value)

    def _keep_number(self, header: str, column: ColumnMapping, value: str, text: str) -> None:
        if self._fillers.is_number(value):
            self._add_issue(header, "value", plausibility.FILLER_NUMBER)
        else:
            self._keep_in_place(column, value)

    def _keep_in_place(self, column: ColumnMapping, value: Any) -> None:
        place = column.to
        if place.startswith("person.address.lines.") and fold(value) in self._mapping.file.nowhere:
            set_path(self._content, "person.address.no_fixed_abode", True)
        else:
            set_path(self._content, place, value)
            if place == _CONSENT and value == "no":
                self._consent_denied = True

    def _keep_date(self, header: str, column: ColumnMapping, value: date, text: str) -> None:
        """Keep a date that is plausible in its place; a birth date only if its century is certain."""
        if column.to == "person.birth_date" and self._is_of_two_centuries(text):
            self._add_issue(header, "value", SHORT_YEAR)
        elif (doubt := plausibility.doubt(column.to, value, self._today, self._fillers)) is None:
            self._keep_in_place(column, value)
        elif doubt.refuses:
            self._add_issue(header, "value", doubt.explanation)
        else:
            self._leave_out(header, column, doubt.explanation)

    def _is_of_two_centuries(self, text: str) -> bool:
        file = self._mapping.file
        short = short_year(text, file.dates) if file.has_short_years else None
        return short is not None and short <= self._today.year % 100

    def _keep_moment(self, header: str, column: ColumnMapping, value: WrittenTime, text: str) -> None:
        if self._fillers.is_date(value.begin.date()):
            self._leave_out(header, column, plausibility.FILLER_DATE)
        elif plausibility.is_ahead(value.begin, self._inbound.received_at):
            self._add_issue(header, "value", plausibility.IS_AHEAD)
        else:
            self._sent = value

    def _keep_name(self, header: str, column: ColumnMapping, value: Mapping[str, Any], text: str) -> None:
        given = [name for name in value["given_names"] if not self._is_no_name(name)]
        if self._is_no_name(value["family_name"]) or self._is_no_name(" ".join([*given, value["family_name"]])):
            self._leave_out(header, column, plausibility.FILLER_NAME)
            return
        if given != value["given_names"]:
            self._warn(header, (plausibility.FILLER_NAME,))
        self._content.setdefault("person", {}).update({k: v for k, v in {**value, "given_names": given}.items() if v})

    def _is_no_name(self, text: str) -> bool:
        return not plausibility.can_be_name(text, self._fillers)

    def _keep_address(self, header: str, column: ColumnMapping, value: Mapping[str, Any], text: str) -> None:
        if postcode := value.get("postcode"):
            self._postcode = (header, postcode)
        here = self._content.setdefault("person", {}).setdefault("address", {})
        here.update({k: v for k, v in value.items() if v and k != "postcode"})

    def _ask(self, needs: Sequence[Need]) -> None:
        for need in needs:
            texts = self._needs.setdefault(need.service, [])
            if need.text and need.text not in texts:
                texts.append(need.text)

    # -- the whole

    @property
    def cancel_reason(self) -> CancelReason | None:
        """The reason if the row cancels the referral; refused consent comes first."""
        return EndReason.CONSENT_WITHDRAWN if self._consent_denied else self._status_reason

    def cancelled(self) -> Translated | Rejection:
        """Translate a row that cancels its referral; only the columns that state the cancel must be valid.

        A withdrawal of consent needs the reference only: its other faults are warnings.
        """
        reference, *others = map(self._mapping.column_to, ("reference", "status", "changed_on", _CONSENT))
        issues = [issue for issue in self._issues if issue.place in (reference, *others)]
        self._warnings = [warning for warning in self._warnings if warning.place in (reference, *others)]
        withdraws = self.cancel_reason is EndReason.CONSENT_WITHDRAWN
        self._issues = [issue for issue in issues if issue.place == reference or not withdraws]
        self._warnings += [issue for issue in issues if issue not in self._issues]
        return self._rejection() or self._cancel(self.cancel_reason or EndReason.CANCELLED_BY_REFERRER)

    def referral(self) -> Translated | Rejection:
        """Translate a row that is a referral."""
        content = self._whole()
        if not self._needs:
            header = self._mapping.column_to("needs") or "row"
            if not any(issue.place == header for issue in self._issues):
                self._add_issue(header, "required", "at least one need is required")
        try:
            referral = Referral.model_validate(content)
        except ValidationError as error:
            named = {issue.place for issue in self._issues}
            self._issues += [issue for issue in issues_of(error, self._header_of) if issue.place not in named]
        return self._rejection() or self._translated(referral)

    def _translated(self, referral: Referral) -> Translated:
        assert self._reference is not None
        return Translated(
            message_ids=(),
            referral_id=self._reference,
            intent="either",
            content_hash=content_hash(referral),
            referral=referral,
            sent_at=self._sent and self._sent.begin,
            sent_until=self._sent and self._sent.end,
            warnings=tuple(self._warnings[: limits.ISSUES]),
            subject=Subject.of(referral.person),
            correlation_id=self._inbound.correlation_id,
        )

    def _cancel(self, reason: CancelReason) -> Translated:
        """Return a cancel. Its id makes the same row in a later file a duplicate, also if it was not applied."""
        assert self._reference is not None
        death_reported = death_report(self._content.get("person", {}))
        digest = cancel_hash(reason, None, death_reported)
        sent_at = self._sent and self._sent.begin
        return Translated(
            message_ids=(f"row cancel {self._reference} {digest} {sent_at}",),
            referral_id=self._reference,
            intent="cancel",
            content_hash=digest,
            cancel_reason=reason,
            death_reported=death_reported,
            sent_at=sent_at,
            sent_until=self._sent and self._sent.end,
            warnings=tuple(self._warnings[: limits.ISSUES]),
            correlation_id=self._inbound.correlation_id,
        )

    def _rejection(self) -> Rejection | None:
        return Rejection(tuple(self._issues[: limits.ISSUES])) if self._issues else None

    def _whole(self) -> dict[str, Any]:
        partner = self._inbound.partner
        reference = self._reference or "unknown"
        self._complete_address()
        self._content["referred_by"] = {
            **self._content.get("referred_by", {}),
            "kind": "council",
            "organisation": partner.organisation,
        }
        more: dict[str, Any] = {
            "message": {
                "format": "council-csv",
                "message_id": reference,
                "referral_id": reference,
                "sent_at": self._sent and self._sent.begin,
            },
            "sent_by": partner.sender,
            "needs": [
                {"service": service, "text": "\n".join(texts)} if texts else {"service": service}
                for service, texts in self._needs.items()
            ],
        }
        if self._flags:
            more["risk_flags"] = [{"code": code, "text": texts} for code, texts in self._flags.items()]
        person = {**self._content.get("person", {}), "vouched_by": partner.vouches}
        return {"consents": {}, **self._content, "person": person, **more}

    def _complete_address(self) -> None:
        """Close gaps in the lines, check the postcode, set `no_fixed_abode` for ZZ99 and the council's own district."""
        person = self._content.get("person", {})
        address = person.get("address", {})
        if self._postcode:
            header, postcode = self._postcode
            if address.setdefault("postcode", postcode) != postcode:
                self._add_issue(header, "value", "has another postcode than the postcode's own column")
        for each in (address, person.get("temporary_address", {})):
            if "lines" in each:
                each["lines"] = [line for line in each["lines"] if line]
        if self._mapping.district == "own":
            address["district"] = self._inbound.partner.council
        if address:
            self._content.setdefault("person", {})["address"] = address
        mark_no_fixed_abode(self._content.get("person", {}))

    # -- places

    def _add_issue(self, header: str, kind: IssueKind, explanation: str) -> None:
        self._issues.append(Issue(header, kind, explanation))

    def _refuse(self, header: str, error: ParseError) -> None:
        self._add_issue(header, error.kind, error.explanation)

    def _warn(self, header: str, explanations: Iterable[str]) -> None:
        self._warnings += [Issue(header, "value", one) for one in explanations]

    def _header_of(self, loc: tuple[int | str, ...]) -> str:
        """Return the column that fills this place of the canonical referral."""
        path = ".".join(map(str, loc))
        for header, column in self._mapping.columns.items():
            fed = FEEDS.get(column.to, (column.to,))
            if any(path == place or path.startswith(f"{place}.") or place.startswith(f"{path}.") for place in fed):
                return header
        return fhir_path(str(loc[0]), loc[1:]) if loc else "row"


_KEEP: Mapping[CellKind, Callable[[_Row, str, ColumnMapping, Any, str], None]] = {
    "reference": _Row._keep_reference,
    "moment": _Row._keep_moment,
    "status": _Row._keep_status,
    "name": _Row._keep_name,
    "address": _Row._keep_address,
    "needs": _Row._keep_needs,
    "flags": _Row._keep_flags,
    "date": _Row._keep_date,
    "nhs-number": _Row._keep_number,
}
"""How a value is kept, by its kind; others are set in their place as they are."""


def withdrawn_but_not_held(mapping: CouncilMapping) -> Issue:
    """Return the fault of a row with refused consent if no referral of it is stored."""
    return Issue(mapping.column_to(_CONSENT) or "row", "business-rule", CONSENT_REFUSED)
