"""The reviewed words of feedback, read from infra/reference_data/templates, and the public contacts of hubs."""

import calendar
import string
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from functools import cache
from pathlib import Path

from schemas.case import CaseStatus, EndReason, HoldReason, RoutingReason
from schemas.model import HubId, ShortText, StrictInput
from schemas.referral import ServiceCode
from schemas.text import fold
from services.notifier.compose import Coded, Feedback, FeedbackType, HubContact
from services.reference import yaml_files
from services.reference.directory import Authority, Directory, Hub
from services.reference.yaml_files import ConfigFile, ConfigIssue

FINDINGS = ("need-confirmed", "no-need-found", "further-assessment", "declined-by-person", "referred-onward")
PLACEHOLDERS = frozenset(
    {"reference", "date", "hub", "contact", "reasons", "reason", "until", "instead", "needs", "open_needs", "status"}
)


class SenderDetails(StrictInput):
    """Who signs."""

    name: ShortText
    short_name: ShortText
    ods: ShortText


class EndTexts(StrictInput):
    """Why something ended, and what to do instead."""

    text: ShortText
    instead: ShortText


class Templates(StrictInput):
    """templates/feedback.yaml."""

    sender: SenderDetails
    paragraphs: dict[FeedbackType, tuple[ShortText, ...]]
    contact: ShortText
    status_only: tuple[ShortText, ...]
    restated: tuple[ShortText, ...]
    practice_todo: dict[str, ShortText]
    status: dict[CaseStatus, ShortText]
    routing_reasons: dict[RoutingReason, ShortText]
    end_reasons: dict[EndReason, EndTexts]
    hold_reasons: dict[HoldReason, ShortText]
    findings: dict[str, ShortText]


class ApprovedPhrases(StrictInput):
    """templates/actions.yaml: what a hub may be quoted with."""

    actions: tuple[ShortText, ...]
    providers: tuple[ShortText, ...]


class TemplateTexts:
    """The words of feedback; implements `feedback.Words`."""

    def __init__(self, templates: Templates, approved: ApprovedPhrases, directory: Directory) -> None:
        self._templates = templates
        self._directory = directory
        self._actions = {fold(action): action for action in approved.actions}
        self._providers = {fold(provider): provider for provider in approved.providers}

    @property
    def sender_details(self) -> SenderDetails:
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
        contact = self._directory.contact(hub)
        return _public(contact) if contact else None

    def central(self) -> HubContact:
        """Whom to call about a referral that has no home hub yet."""
        return _public(self._directory.triage)

    def action(self, action: str) -> str | None:
        """The action, where it is on the reviewed list."""
        return self._actions.get(fold(action))

    def provider(self, provider: str) -> str | None:
        """The provider, where it is on the reviewed list."""
        return self._providers.get(fold(provider))

    def practice_todo(self, feedback_type: FeedbackType, *, full: bool) -> str:
        """What a practice need do."""
        lines = self._templates.practice_todo
        return lines.get(feedback_type.value, lines["none"]) if full else lines["status-only"]

    def paragraphs(self, feedback: Feedback) -> tuple[str, ...]:
        """The feedback in plain sentences."""
        lines = self._templates.paragraphs[feedback.feedback_type] if feedback.full else self._templates.status_only
        return self._fill((*lines, self._templates.contact), feedback)

    def restated(self, feedback: Feedback) -> tuple[str, ...]:
        """The same, after an earlier message that could not be delivered."""
        intro = self._fill(self._templates.restated, feedback)
        opening = set(intro)
        return (*intro, *(line for line in self.paragraphs(feedback) if line not in opening))

    def _fill(self, lines: Iterable[str], feedback: Feedback) -> tuple[str, ...]:
        values = self._values(feedback)
        return tuple(line.format_map(values) for line in lines if all(values.get(name) for name in _placeholders(line)))

    def _values(self, feedback: Feedback) -> Mapping[str, str]:
        return {
            "reference": feedback.reference,
            "date": long_date(feedback.on),
            "status": self._templates.status[feedback.status],
            "hub": feedback.hub.name if feedback.hub else "",
            "contact": contact_text(feedback.hub),
            "reasons": "; ".join(reason.text for reason in feedback.routing_reasons),
            "reason": feedback.reason.text if feedback.reason else "",
            "until": long_date(feedback.until) if feedback.until else "",
            "instead": self._instead(feedback),
            "needs": ", ".join(need.text for need in feedback.needs),
            "open_needs": ", ".join(need.text for need in feedback.open_needs),
        }

    def _instead(self, feedback: Feedback) -> str:
        if feedback.refer_to is not None:
            contact = contact_text(feedback.refer_to)
            return f"please refer to {feedback.refer_to.name}{': ' + contact if contact else ''}."
        if feedback.reason is None or feedback.feedback_type is not FeedbackType.REJECTED:
            return ""
        return self._templates.end_reasons[EndReason(feedback.reason.code)].instead


def load(folder: Path, directory: Directory) -> TemplateTexts:
    """Read the reviewed words in `folder`; raises reviewed.Faulty."""
    return TemplateTexts(templates(folder), approved_phrases(folder), directory)


def templates(folder: Path) -> Templates:
    """templates/feedback.yaml; raises reviewed.Faulty."""
    file: ConfigFile[Templates] = yaml_files.load(folder / "templates" / "feedback.yaml", Templates)
    if issues := [*_codes_without_text(file), *_unknown_placeholders(file)]:
        raise yaml_files.ConfigError(issues)
    return file.value


def approved_phrases(folder: Path) -> ApprovedPhrases:
    """templates/actions.yaml; raises reviewed.Faulty."""
    return yaml_files.load(folder / "templates" / "actions.yaml", ApprovedPhrases).value


def _codes_without_text(file: ConfigFile[Templates]) -> Iterator[ConfigIssue]:
    required: dict[str, Iterable[str]] = {
        "paragraphs": FeedbackType,
        "status": CaseStatus,
        "routing_reasons": RoutingReason,
        "end_reasons": EndReason,
        "hold_reasons": HoldReason,
        "findings": FINDINGS,
    }
    for name, codes in required.items():
        present = getattr(file.value, name)
        yield from (file.issue((name,), f"{code} has no words") for code in codes if code not in present)


def _unknown_placeholders(file: ConfigFile[Templates]) -> Iterator[ConfigIssue]:
    texts: dict[tuple[str, ...], Iterable[str]] = {
        ("paragraphs", t): lines for t, lines in file.value.paragraphs.items()
    }
    texts |= {
        ("contact",): [file.value.contact],
        ("status_only",): file.value.status_only,
        ("restated",): file.value.restated,
    }
    for loc, lines in texts.items():
        for place, line in enumerate(lines):
            for name in sorted(_placeholders(line) - PLACEHOLDERS):
                yield file.issue((*loc, place), f"unknown field: {{{name}}}")


def long_date(day: date) -> str:
    """3 November 2026."""
    return f"{day.day} {calendar.month_name[day.month]} {day.year}"


def _public(party: Hub | Authority) -> HubContact:
    return HubContact(id=party.id, name=party.name, phone=party.contact.phone, email=party.contact.email)


def contact_text(hub: HubContact | None) -> str:
    """A hub's telephone number and address."""
    return " or ".join(part for part in (hub.phone, hub.email) if part) if hub else ""


@cache
def _placeholders(line: str) -> frozenset[str]:
    return frozenset(name for _, name, _, _ in string.Formatter().parse(line) if name)
