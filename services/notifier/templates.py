"""The reviewed texts of feedback, from infra/reference_data/templates, and the public contacts of hubs."""

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
from services.notifier.compose import Coded, Feedback, FeedbackType, HubContact, NeedOutcome
from services.reference import yaml_files
from services.reference.directory import Authority, Directory, Hub
from services.reference.texts import ApprovedPhrases, CodeTexts, approved_phrases
from services.reference.yaml_files import ConfigFile, ConfigIssue

FINDINGS = ("need-confirmed", "no-need-found", "further-assessment", "declined-by-person", "referred-onward")
PLACEHOLDERS = frozenset(
    "reference date hub contact reasons reason until instead instead_before needs open_needs outcomes ended_before status".split()  # noqa: SIM905
)


class SenderDetails(StrictInput):
    """The organisation that signs letters and sends messages."""

    name: ShortText
    short_name: ShortText
    ods: ShortText


class RestrictedTexts(StrictInput):
    """Texts for persons with restricted data: they name no hub and no place."""

    name: ShortText
    reason: ShortText
    instead: ShortText


class Templates(CodeTexts):
    """The file templates/feedback.yaml."""

    model_config = StrictInput.model_config

    sender: SenderDetails
    paragraphs: dict[FeedbackType, tuple[ShortText, ...]]
    contact: ShortText
    status_only: tuple[ShortText, ...]
    restated: tuple[ShortText, ...]
    practice_todo: dict[str, ShortText]
    status: dict[CaseStatus, ShortText]
    routing_reasons: dict[RoutingReason, ShortText]
    restricted: RestrictedTexts


class TemplateTexts:
    """The texts of feedback; implements `compose.FeedbackTexts`."""

    def __init__(self, templates: Templates, approved: ApprovedPhrases, directory: Directory) -> None:
        self._templates = templates
        self._directory = directory
        self._actions = {fold(action): action for action in approved.actions}
        self._providers = {fold(provider): provider for provider in approved.providers}

    @property
    def sender_details(self) -> SenderDetails:
        """The organisation that signs."""
        return self._templates.sender

    def status(self, status: CaseStatus) -> str:
        """Return the text of a referral's status."""
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
        """Return the name and public contact of a hub or an authority outside the county, or None."""
        contact = self._directory.contact(hub)
        return _public(contact) if contact else None

    def central(self) -> HubContact:
        """Return the contact for a referral that does not have a home hub yet."""
        return _public(self._directory.triage)

    def service_as_a_whole(self) -> HubContact:
        """Return the central contact in the name of the service, for a person with restricted data."""
        return self.central().model_copy(update={"name": self._templates.restricted.name})

    def without_place(self) -> Coded:
        """Return a reason in place of one that would disclose where the person lives."""
        return Coded(code=EndReason.OTHER.value, text=self._templates.restricted.reason)

    def action(self, action: str) -> str | None:
        """Return the action as reviewed, or None if it is not on the list."""
        return self._actions.get(fold(action))

    def provider(self, provider: str) -> str | None:
        """Return the provider as reviewed, or None if it is not on the list."""
        return self._providers.get(fold(provider))

    def practice_todo(self, feedback_type: FeedbackType, *, full: bool) -> str:
        """Return what the practice needs to do."""
        lines = self._templates.practice_todo
        return lines.get(feedback_type.value, lines["none"]) if full else lines["status-only"]

    def paragraphs(self, feedback: Feedback) -> tuple[str, ...]:
        """Return the feedback as plain paragraphs."""
        lines = self._templates.paragraphs[feedback.feedback_type] if feedback.full else self._templates.status_only
        return self._fill((*lines, self._templates.contact), feedback)

    def restated(self, feedback: Feedback) -> tuple[str, ...]:
        """Return the paragraphs of a feedback that restates the position after a failed one."""
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
            **(self._ends(feedback) if feedback.ended or feedback.ended_before else {}),
            "needs": ", ".join(need.text for need in feedback.needs),
            "open_needs": ", ".join(need.text for need in feedback.open_needs),
        }

    def _ends(self, feedback: Feedback) -> Mapping[str, str]:
        return {
            "instead": self._instead(feedback, feedback.ended),
            "instead_before": self._instead(feedback, feedback.ended_before),
            "outcomes": self._outcomes((*feedback.ended_before, *feedback.ended)),
            "ended_before": self._outcomes(feedback.ended_before),
        }

    def _outcomes(self, outcomes: Iterable[NeedOutcome]) -> str:
        """Return each need with how it ended, such as `Minor adaptations (completed)`, and why, if this is known."""
        return ", ".join(
            f"{one.need.text} ({self.status(one.status)}{': ' + one.reason.text if one.reason else ''})"
            for one in outcomes
        )

    def _instead(self, feedback: Feedback, ended: Iterable[NeedOutcome]) -> str:
        """Return what to do instead of the needs of `ended` that were returned."""
        returned = (one for one in ended if one.status is CaseStatus.REJECTED and one.reason)
        return " ".join(dict.fromkeys(self._advice(one, feedback.restricted_access) for one in returned))

    def _advice(self, returned: NeedOutcome, restricted: bool) -> str:
        if returned.refer_to is not None:
            contact = contact_text(returned.refer_to)
            return f"please refer to {returned.refer_to.name}{': ' + contact if contact else ''}."
        assert returned.reason is not None
        if restricted and returned.reason.code == EndReason.OTHER:
            return self._templates.restricted.instead
        return self._templates.end_reasons[EndReason(returned.reason.code)].instead


def load(folder: Path, directory: Directory) -> TemplateTexts:
    """Load the reviewed texts of `folder`. Raise ConfigError."""
    return TemplateTexts(templates(folder), approved_phrases(folder), directory)


def templates(folder: Path) -> Templates:
    """Load templates/feedback.yaml. Raise ConfigError."""
    file: ConfigFile[Templates] = yaml_files.load(folder / "templates" / "feedback.yaml", Templates)
    if issues := [*_codes_without_text(file), *_unknown_placeholders(file)]:
        raise yaml_files.ConfigError(issues)
    return file.value


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
        yield from (file.issue((name,), f"has no text for {code}") for code in codes if code not in present)


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
                yield file.issue((*loc, place), f"unknown placeholder: {{{name}}}")


def long_date(day: date) -> str:
    """Return a date such as 3 November 2026."""
    return f"{day.day} {calendar.month_name[day.month]} {day.year}"


def _public(party: Hub | Authority) -> HubContact:
    return HubContact(id=party.id, name=party.name, phone=party.contact.phone, email=party.contact.email)


def contact_text(hub: HubContact | None) -> str:
    """Return the telephone number and e-mail address of a hub, or an empty string."""
    return " or ".join(part for part in (hub.phone, hub.email) if part) if hub else ""


@cache
def _placeholders(line: str) -> frozenset[str]:
    return frozenset(name for _, name, _, _ in string.Formatter().parse(line) if name)
