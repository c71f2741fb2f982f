"""The letter that a practice files: one XHTML page with person, findings, actions, what to do, and contact."""

import re
from collections.abc import Iterable
from html import escape

from schemas.events import PersonBrief
from services.notifier.compose import CompletedAction, Feedback, ReportedFinding
from services.notifier.templates import SenderDetails, contact_text, long_date

TITLE = "Housing support feedback"
STYLE = (
    "body{font:12pt Arial,sans-serif;max-width:18cm}table{border-collapse:collapse}"
    "td,th{border:1px solid #999;padding:2pt 6pt;text-align:left}"
)


def page(feedback: Feedback, sender_details: SenderDetails) -> str:
    """Return the letter as a complete document."""
    return (
        '<!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml" lang="en"><head><meta charset="utf-8"/>'
        f"<title>{TITLE}</title><style>{STYLE}</style></head><body>{content(feedback, sender_details)}</body></html>"
    )


def content(feedback: Feedback, sender_details: SenderDetails) -> str:
    """Return the content of <body>, which is also the FHIR narrative."""
    return "".join(
        (
            f"<h1>{TITLE}</h1>",
            _lines((sender_details.name, long_date(feedback.on), f"To: {feedback.recipient.name or 'the referrer'}")),
            _section("About", _who(feedback)),
            _section("What we have to tell you", "".join(f"<p>{_text(line)}</p>" for line in feedback.text)),
            _section("What was found", _finding_rows(feedback.findings)),
            _section("What was done", _done(feedback.completed_actions)),
            _section("What the practice needs to do", f"<p>{_text(feedback.practice_todo or '')}</p>"),
            _section("Whom to call", _call(feedback)),
        )
    )


def name_of(person: PersonBrief) -> str:
    """Return the given names and family name, such as Edith Vantongeren."""
    return " ".join((*person.given_names, person.family_name or "")).strip() or "name not given"


def spaced(nhs_number: str) -> str:
    """Return an NHS number with spaces, such as 999 000 0018."""
    return f"{nhs_number[:3]} {nhs_number[3:6]} {nhs_number[6:]}"


def _who(feedback: Feedback) -> str:
    person = feedback.person
    referral = (
        f"Our reference: {feedback.reference}",
        f"Number given by the sender: {feedback.referral_id}",
        f"Referred by: {feedback.referred_by}" if feedback.referred_by else None,
    )
    if person is None:
        return _lines(("The person of the referral below; please check who it is before you file this.", *referral))
    number = f"NHS number: {spaced(person.nhs_number)}" if person.nhs_number else "NHS number: not given"
    born = f"Born: {long_date(person.birth_date)}" if person.birth_date else None
    return _lines((name_of(person), number, born, *referral))


def _finding_rows(findings: tuple[ReportedFinding, ...]) -> str:
    return _table(("Need", "Found"), ((f.service.text, f.finding.text) for f in findings)) if findings else ""


def _done(done: tuple[CompletedAction, ...]) -> str:
    rows = ((d.service.text, d.action or "done", d.provider or "", long_date(d.on) if d.on else "") for d in done)
    return _table(("Need", "What was done", "By whom", "When"), rows) if done else ""


def _call(feedback: Feedback) -> str:
    hub = feedback.hub
    return _lines((hub.name, contact_text(hub), f"Please give the reference {feedback.reference}.")) if hub else ""


def _section(title: str, inside: str) -> str:
    return f"<h2>{title}</h2>{inside}" if inside else ""


def _lines(lines: Iterable[str | None]) -> str:
    return f"<p>{'<br/>'.join(_text(line) for line in lines if line)}</p>"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{_text(cell)}</th>' for cell in head)}</tr>{cells}</table>"


_NOT_IN_XML = re.compile(r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _text(text: str) -> str:
    """Escape text, and remove the characters that XML 1.0 does not allow, and control characters. No-break spaces stay."""
    return escape(_NOT_IN_XML.sub("", text))
