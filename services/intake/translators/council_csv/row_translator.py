"""Translate one row of a council's file into a canonical referral. All faults are found at once, named by column."""

from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from schemas.case import EndReason
from schemas.referral import Person, Referral, ServiceCode
from services.intake.translators.council_csv.cell_parsers import OF_KIND
from services.intake.translators.council_csv.cells import Doubtful, clean, fold
from services.intake.translators.council_csv.mapping import ColumnMapping, CouncilMapping, Need
from services.intake.translators.council_csv.targets import CANCELS, FEEDS
from services.intake.translators.form.fields import ParseError
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.plausibility import IMPLAUSIBLE_BIRTH, is_plausible_birth
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
    set_path,
)

AHEAD = timedelta(days=1)
"""How far a council's clock may be ahead of the hub's. A later date would make all following changes look stale."""

_CONSENT = "consents.referral.answer"


def read(mapping: CouncilMapping, cells: dict[str, str], inbound: InboundMessage) -> Translated | Rejection:
    """Translate a row; `cells` by the mapping's headers."""
    row = _Row(mapping, inbound)
    for header, cell in cells.items():
        row.read(header, mapping.columns[header], cell)
    return row.cancelled() if row.cancel_reason else row.referral()


class _Row:
    """The values and faults of a row."""

    def __init__(self, mapping: CouncilMapping, inbound: InboundMessage) -> None:
        self._mapping = mapping
        self._inbound = inbound
        self._content: dict[str, Any] = {}
        self._needs: dict[ServiceCode, list[str]] = {}
        self._flags: dict[str, str] = {}
        self._issues: list[Issue] = []
        self._warnings: list[Issue] = []
        self._reference: str | None = None
        self._sent_at: datetime | None = None
        self._postcode: tuple[str, str] | None = None
        self._status_reason: CancelReason | None = None
        self._consent_denied = False
        self._ask(mapping.needs)
        for place, value in mapping.constants.items():
            set_path(self._content, place, value)

    # -- cells

    def read(self, header: str, column: ColumnMapping, cell: str) -> None:
        """Parse one cell into its place."""
        text = clean(cell) if cell else ""
        if isinstance(text, ParseError):
            self._add_issue(header, text.kind, text.explanation)
        elif not text or self._mapping.file.is_nothing(text):
            if column.required:
                self._add_issue(header, "required", "is required")
        else:
            value = OF_KIND[column.kind](text, column, self._mapping.file)
            if isinstance(value, ParseError):
                self._add_issue(header, value.kind, value.explanation)
            else:
                self._keep(header, column, self._undoubted(header, value))

    def _undoubted(self, header: str, value: Any) -> Any:
        """Return a value without its warnings, which are kept for the report."""
        if not isinstance(value, Doubtful):
            return value
        self._warnings += [Issue(header, warning.kind, warning.explanation) for warning in value.warnings]
        return value.value

    def _keep(self, header: str, column: ColumnMapping, value: Any) -> None:
        match column.kind:
            case "reference":
                self._reference = value
            case "moment":
                self._sent_at = self._past(header, value)
            case "status":
                self._status_reason = CANCELS.get(value)
            case "name":
                self._content.setdefault("person", {}).update({k: v for k, v in value.items() if v})
            case "address":
                self._keep_address(header, value)
            case "needs":
                self._ask(value)
            case "flags":
                self._flags |= dict(value)
            case _:
                self._keep_in_place(header, column, value)

    def _keep_in_place(self, header: str, column: ColumnMapping, value: Any) -> None:
        place = column.to
        if place == "person.birth_date" and not is_plausible_birth(value, self._inbound.received_at.date()):
            self._add_issue(header, "value", IMPLAUSIBLE_BIRTH)
        elif place.startswith("person.address.lines.") and fold(value) in self._mapping.file.nowhere:
            set_path(self._content, "person.address.no_fixed_abode", True)
        else:
            set_path(self._content, place, value)
            if place == _CONSENT and value == "no":
                self._consent_denied = True

    def _keep_address(self, header: str, address: dict[str, Any]) -> None:
        if postcode := address.pop("postcode", None):
            self._postcode = (header, postcode)
        here = self._content.setdefault("person", {}).setdefault("address", {})
        here.update({k: v for k, v in address.items() if v})

    def _past(self, header: str, value: datetime) -> datetime | None:
        if value <= self._inbound.received_at + AHEAD:
            return value
        self._add_issue(header, "value", "is in the future")
        return None

    def _ask(self, needs: Any) -> None:
        need: Need
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
        """Translate a row that cancels its referral; only the columns that state the cancel must be valid."""
        needed = {self._mapping.column_to(place) for place in ("reference", "status", "changed_on", _CONSENT)}
        self._issues = [issue for issue in self._issues if issue.place in needed]
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
            sent_at=self._sent_at,
            warnings=tuple(self._warnings[:50]),
            subject=_subject(referral.person),
            correlation_id=self._inbound.correlation_id,
        )

    def _cancel(self, reason: CancelReason) -> Translated:
        assert self._reference is not None
        death_reported = death_report(self._content.get("person", {}))
        return Translated(
            message_ids=(),
            referral_id=self._reference,
            intent="cancel",
            content_hash=cancel_hash(reason, None, death_reported),
            cancel_reason=reason,
            death_reported=death_reported,
            sent_at=self._sent_at,
            correlation_id=self._inbound.correlation_id,
        )

    def _rejection(self) -> Rejection | None:
        return Rejection(tuple(self._issues[:50])) if self._issues else None

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
                "sent_at": self._sent_at,
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
        for each in (address, person.get("temporary_address", {})):
            if "lines" in each:
                each["lines"] = [line for line in each["lines"] if line]
        if self._postcode:
            header, postcode = self._postcode
            if address.setdefault("postcode", postcode) != postcode:
                self._add_issue(header, "value", "has another postcode than the postcode's own column")
        if str(address.get("postcode", "")).startswith("ZZ99"):
            address["no_fixed_abode"] = True
        if self._mapping.district == "own":
            address["district"] = self._inbound.partner.council
        if address:
            self._content.setdefault("person", {})["address"] = address

    # -- places

    def _add_issue(self, header: str, kind: IssueKind, explanation: str) -> None:
        self._issues.append(Issue(header, kind, explanation))

    def _header_of(self, loc: tuple[int | str, ...]) -> str:
        """Return the column that fills this place of the canonical referral."""
        path = ".".join(map(str, loc))
        for header, column in self._mapping.columns.items():
            fed = FEEDS.get(column.to, (column.to,))
            if any(path == place or path.startswith(f"{place}.") or place.startswith(f"{path}.") for place in fed):
                return header
        return fhir_path(str(loc[0]), loc[1:]) if loc else "row"


def _subject(person: Person) -> Subject:
    return Subject(person.nhs_number, person.birth_date, person.family_name)


def withdrawn_but_not_held(mapping: CouncilMapping) -> Issue:
    """Return the fault of a row with refused consent if no referral of it is stored."""
    return Issue(mapping.column_to(_CONSENT) or "row", "business-rule", CONSENT_REFUSED)
