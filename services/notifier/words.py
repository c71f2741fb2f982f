"""The reviewed words of feedback, read from infra/directory/templates, and the public contacts of hubs."""

import calendar
import string
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from functools import cache
from pathlib import Path

from schemas.case import CaseStatus, EndReason, HoldReason, RoutingReason
from schemas.model import HubId, Line, Written
from schemas.referral import ServiceCode
from services import reviewed
from services.directory import Authority, Directory, Hub
from services.notifier.feedback import Coded, Feedback, FeedbackType, HubContact
from services.reviewed import Fault, Reviewed

FINDINGS = ("need-confirmed", "no-need-found", "further-assessment", "declined-by-person", "referred-onward")
PLACEHOLDERS = frozenset(
    {"reference", "date", "hub", "contact", "reasons", "reason", "until", "instead", "needs", "open_needs", "status"}
)


class Ourselves(Written):
    """Who signs."""

    name: Line
    short_name: Line
    ods: Line


class EndWords(Written):
    """Why something ended, and what to do instead."""

    text: Line
    instead: Line


class Templates(Written):
    """templates/feedback.yaml."""

    sender: Ourselves
    paragraphs: dict[FeedbackType, tuple[Line, ...]]
    contact: Line
    status_only: tuple[Line, ...]
    restated: tuple[Line, ...]
    practice_todo: dict[str, Line]
    status: dict[CaseStatus, Line]
    routing_reasons: dict[RoutingReason, Line]
    end_reasons: dict[EndReason, EndWords]
    hold_reasons: dict[HoldReason, Line]
    findings: dict[str, Line]


class Quotable(Written):
    """templates/actions.yaml: what a hub may be quoted with."""

    actions: tuple[Line, ...]
    providers: tuple[Line, ...]


class ReviewedWords:
    """The words of feedback; implements `feedback.Words`."""

    def __init__(self, templates: Templates, quotable: Quotable, directory: Directory) -> None:
        self._templates = templates
        self._directory = directory
        self._actions = {_folded(action): action for action in quotable.actions}
        self._providers = {_folded(provider): provider for provider in quotable.providers}

    @property
    def ourselves(self) -> Ourselves:
        """Who signs."""
        return self._templates.sender

    def status(self, status: CaseStatus) -> str:
        """A referral's status in words."""
        return self._templates.status[status]

    def routing(self, reason: RoutingReason) -> Coded:
        return Coded(code=reason.value, text=self._templates.routing_reasons[reason])

    def end(self, reason: EndReason) -> Coded:
        return Coded(code=reason.value, text=self._templates.end_reasons[reason].text)

    def hold(self, reason: HoldReason) -> Coded:
        return Coded(code=reason.value, text=self._templates.hold_reasons[reason])

    def finding(self, finding: str) -> Coded:
        return Coded(code=finding, text=self._templates.findings[finding])

    def service(self, service: ServiceCode) -> Coded:
        return Coded(code=service, text=self._directory.offer(service).label)

    def hub(self, hub: HubId | None) -> HubContact | None:
        """Name and public contact of a hub, or of an authority outside the county."""
        found = self._directory.contact(hub)
        return _public(found) if found else None

    def central(self) -> HubContact:
        """Whom to call about a referral that has no home hub yet."""
        return _public(self._directory.triage)

    def action(self, action: str) -> str | None:
        """The action, where it is on the reviewed list."""
        return self._actions.get(_folded(action))

    def provider(self, provider: str) -> str | None:
        """The provider, where it is on the reviewed list."""
        return self._providers.get(_folded(provider))

    def practice_todo(self, told: FeedbackType, *, full: bool) -> str:
        """What a practice need do."""
        lines = self._templates.practice_todo
        return lines.get(told.value, lines["none"]) if full else lines["status-only"]

    def paragraphs(self, feedback: Feedback) -> tuple[str, ...]:
        """The feedback in plain sentences."""
        lines = self._templates.paragraphs[feedback.feedback_type] if feedback.full else self._templates.status_only
        return self._filled((*lines, self._templates.contact), feedback)

    def restated(self, feedback: Feedback) -> tuple[str, ...]:
        """The same, after an earlier message that could not be delivered."""
        intro = self._filled(self._templates.restated, feedback)
        known = set(intro)
        return (*intro, *(line for line in self.paragraphs(feedback) if line not in known))

    def _filled(self, lines: Iterable[str], feedback: Feedback) -> tuple[str, ...]:
        values = self._values(feedback)
        return tuple(line.format_map(values) for line in lines if all(values.get(name) for name in _placeholders(line)))

    def _values(self, feedback: Feedback) -> Mapping[str, str]:
        return {
            "reference": feedback.reference,
            "date": in_words(feedback.on),
            "status": self._templates.status[feedback.status],
            "hub": feedback.hub.name if feedback.hub else "",
            "contact": contact_words(feedback.hub),
            "reasons": "; ".join(reason.text for reason in feedback.routing_reasons),
            "reason": feedback.reason.text if feedback.reason else "",
            "until": in_words(feedback.until) if feedback.until else "",
            "instead": self._instead(feedback),
            "needs": ", ".join(need.text for need in feedback.needs),
            "open_needs": ", ".join(need.text for need in feedback.open_needs),
        }

    def _instead(self, feedback: Feedback) -> str:
        if feedback.refer_to is not None:
            contact = contact_words(feedback.refer_to)
            return f"please refer to {feedback.refer_to.name}{': ' + contact if contact else ''}."
        if feedback.reason is None or feedback.feedback_type is not FeedbackType.REJECTED:
            return ""
        return self._templates.end_reasons[EndReason(feedback.reason.code)].instead


def load(folder: Path, directory: Directory) -> ReviewedWords:
    """Read the reviewed words in `folder`; raises reviewed.Faulty."""
    return ReviewedWords(templates(folder), quotable(folder), directory)


def templates(folder: Path) -> Templates:
    """templates/feedback.yaml; raises reviewed.Faulty."""
    file: Reviewed[Templates] = reviewed.load(folder / "templates" / "feedback.yaml", Templates)
    if faults := [*_codes_without_words(file), *_unknown_placeholders(file)]:
        raise reviewed.Faulty(faults)
    return file.value


def quotable(folder: Path) -> Quotable:
    """templates/actions.yaml; raises reviewed.Faulty."""
    return reviewed.load(folder / "templates" / "actions.yaml", Quotable).value


def _codes_without_words(file: Reviewed[Templates]) -> Iterator[Fault]:
    wanted: dict[str, Iterable[str]] = {
        "paragraphs": FeedbackType,
        "status": CaseStatus,
        "routing_reasons": RoutingReason,
        "end_reasons": EndReason,
        "hold_reasons": HoldReason,
        "findings": FINDINGS,
    }
    for name, codes in wanted.items():
        given = getattr(file.value, name)
        yield from (file.fault((name,), f"{code} has no words") for code in codes if code not in given)


def _unknown_placeholders(file: Reviewed[Templates]) -> Iterator[Fault]:
    said: dict[tuple[str, ...], Iterable[str]] = {
        ("paragraphs", t): lines for t, lines in file.value.paragraphs.items()
    }
    said |= {
        ("contact",): [file.value.contact],
        ("status_only",): file.value.status_only,
        ("restated",): file.value.restated,
    }
    for loc, lines in said.items():
        for place, line in enumerate(lines):
            for name in sorted(_placeholders(line) - PLACEHOLDERS):
                yield file.fault((*loc, place), f"unknown field: {{{name}}}")


def in_words(day: date) -> str:
    """3 November 2026."""
    return f"{day.day} {calendar.month_name[day.month]} {day.year}"


def _public(found: Hub | Authority) -> HubContact:
    return HubContact(id=found.id, name=found.name, phone=found.contact.phone, email=found.contact.email)


def contact_words(hub: HubContact | None) -> str:
    """A hub's telephone number and address."""
    return " or ".join(part for part in (hub.phone, hub.email) if part) if hub else ""


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


@cache
def _placeholders(line: str) -> frozenset[str]:
    return frozenset(name for _, name, _, _ in string.Formatter().parse(line) if name)
