"""One story, written in every format, is read as the same referral: in all that the format can say, and in nothing else.

What a format cannot say is in `UNSAYABLE`, and only there.
"""

import re
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, get_args
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import BaseModel

from schemas.events import ReferralReceived, ReferralUpdated
from schemas.referral import Referral
from services.intake import batch, identifiers
from services.intake.batch import Batch, MessageDecision, PendingMessage, ProtocolResponse
from services.intake.translators import council_csv, form
from services.intake.translators.council_csv import CouncilMapping, workbook
from services.intake.translators.form import Form
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import Rejection, Translated
from services.reference import fillers
from tests.builders import story_strategies, story_writers
from tests.builders.stories import EVERYTHING, Story, meaning, plain
from tests.builders.story_writers import Kind
from tests.contract.translators.adapters import ATTACHMENT_KEY, BARS, DIRECTORY, HL7V2, RECEIVED_AT, a_partner
from tests.intake.stored import a_stored_referral

MAPPING = CouncilMapping.model_validate(story_writers.mapping())


def _row_of_a_workbook(story: Story, kind: Kind) -> bytes:
    """Return the row of a workbook as intake stores it: with the header, as CSV."""
    return b"".join(record.body for record in workbook.records(story_writers.as_workbook(story, kind), MAPPING))


FORMATS: dict[str, tuple[Translator, Callable[..., bytes]]] = {
    "bars": (BARS, story_writers.as_bars),
    "hl7v2": (HL7V2, story_writers.as_hl7v2),
    "form": (form.translator(Form.model_validate(story_writers.FORM)), story_writers.as_form),
    "row": (council_csv.translator(MAPPING), story_writers.as_row),
    "workbook": (council_csv.translator(MAPPING.as_workbook), _row_of_a_workbook),
}

_NO_GRANT = "only councils, and forms that ask, report the stages of a grant"
_NO_CODES = "a clerk ticks and types; no code of a terminology is entered"
_NO_STAY = "a council knows of no hospital stay"
_NOT_AGREED = "the reviewed file of the trust has no observation for it"

UNSAYABLE: dict[tuple[str, str], str] = {
    ("bars", "enquired_on"): "FHIR has no first enquiry",
    ("bars", "grant"): _NO_GRANT,
    ("bars", "hospital.needs_assessment_attached"): "a document of the bundle is the assessment",
    ("bars", "hospital.visit"): "visit numbers are read of HL7 v2 only, for ADT",
    ("bars", "person.address.district"): "a district is told by councils; else it is found by postcode",
    ("hl7v2", "contacts.rank"): "NK1 has no order of preference",
    ("hl7v2", "enquired_on"): _NOT_AGREED,
    ("hl7v2", "grant"): _NO_GRANT,
    ("hl7v2", "person.address.district"): "a district is told by councils; else it is found by postcode",
    ("hl7v2", "person.preferred_contact"): _NOT_AGREED,
    ("form", "needs.snomed"): _NO_CODES,
    ("form", "person.other_contact_points.use"): "a textphone is asked for without its use",
    ("form", "reason.snomed"): _NO_CODES,
    ("row", "attachments"): "a cell holds no document",
    ("row", "contacts.rank"): "the first contact is the first",
    ("row", "discharged_on"): _NO_STAY,
    ("row", "expected_discharge_on"): _NO_STAY,
    ("row", "hospital"): _NO_STAY,
    ("row", "needs.snomed"): _NO_CODES,
    ("row", "needs.text"): "a need is a code: its text is that of the mapping",
    ("row", "person.address.since"): "no column gives the period of an address",
    ("row", "person.address.until"): "no column gives the period of an address",
    ("row", "person.local_ids"): "the reference is the council's only identifier",
    ("row", "person.other_contact_points.use"): "a textphone has one column, without its use",
    ("row", "ready_for_transfer_on"): _NO_STAY,
    ("row", "reason.snomed"): _NO_CODES,
    ("row", "referred_by.identifier"): "an officer has no professional number",
    ("row", "referred_by.kind"): "the referrer of a row is always the council",
}
UNSAYABLE |= {("workbook", place): why for (name, place), why in UNSAYABLE.items() if name == "row"}
"""Why a format cannot say what fills a place of the referral, by format and place; of an object, all below it."""

NOT_TOLD = {
    "message": "the envelope of the message, which each format has its own way",
    "attachments.reference": "made here, from the referral's names",
    "hospital.admission_cancelled": "told by ADT only",
    "hospital.moved_to": "told by ADT, and by a discharge to another hospital",
    "needs.snomed.display": "the text of a need says it",
    "reason.snomed.display": "the text of the reason says it",
    "person.temporary_address": "has the same model as the address",
    "person.vouched_by": "of the partner's entry",
    "sent_by": "of the partner's entry",
    "to_be_read": "what was not understood",
}
"""Why a place of the referral is not in `EVERYTHING`."""


FILLERS = fillers.load(DIRECTORY)


def told(name: str, story: Story, kind: Kind = "new", **more: Any) -> Translated | Rejection:
    """Return what a format makes of a story."""
    translate, write = FORMATS[name]
    return translate(_delivered(write(story, kind, **more)))


def _delivered(body: bytes) -> InboundMessage:
    return InboundMessage(a_partner("uhl"), body, RECEIVED_AT, ATTACHMENT_KEY, fillers=FILLERS)


def places(value: Any, at: str = "") -> dict[str, Any]:
    """Return what is said by place: of a list of objects, the values of each name in order. Nothing is not listed.

    The order of needs says nothing: a form has that of its checklist.
    """
    if isinstance(value, dict):
        found: dict[str, Any] = {at: True} if at in ("person.death_reported", "hospital") else {}
        for name, one in value.items():
            found |= places(one, f"{at}.{name}" if at else name)
        return found
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        each = [places(one, at) for one in sorted(value, key=lambda one: str(one.get("service")))]
        names = dict.fromkeys(name for one in each for name in one)
        return {name: tuple(one.get(name) for one in each) for name in names}
    if value in (None, "", [], ()):
        return {}
    return {at: _BLANKS.sub(" ", _LINE_EDGES.sub("\n", value)) if at in PROSE and isinstance(value, str) else value}


PROSE = ("needs.text", "reason.text")
"""Free text, of which a format may keep blanks in a row and blanks before a line break."""

_BLANKS, _LINE_EDGES = re.compile(" {2,}"), re.compile(" *\n *")


def is_below(place: str, above: str) -> bool:
    return place == above or place.startswith(f"{above}.")


def referral_of(name: str, story: Story) -> Referral:
    """Return the referral of a story that is taken."""
    outcome = told(name, story)
    assert isinstance(outcome, Translated), outcome
    assert outcome.referral is not None
    return outcome.referral


def differences(story: Story, referral: Referral) -> dict[str, tuple[Any, Any]]:
    """Return the places where the referral is not what the story means: what it means, and what was read."""
    content = referral.model_dump(exclude_defaults=True, exclude={"message"})
    meant, read = places(meaning(story)), places(content)
    pairs = {place: (meant.get(place), read.get(place)) for place in {*meant, *read}}
    return {place: pair for place, pair in pairs.items() if pair[0] != pair[1] and place != "attachments.reference"}


def misread(name: str, story: Story, referral: Referral) -> dict[str, tuple[Any, Any]]:
    """Return the differences without those that the format cannot but make."""
    unsayable = [place for one, place in UNSAYABLE if one == name]
    found = differences(story, referral)
    return {place: pair for place, pair in found.items() if not any(is_below(place, one) for one in unsayable)}


@pytest.mark.parametrize("name", FORMATS)
def test_a_story_that_says_everything_is_read_as_it_was_meant(name: str) -> None:
    assert misread(name, EVERYTHING, referral_of(name, EVERYTHING)) == {}


@pytest.mark.parametrize(("name", "place"), UNSAYABLE)
def test_no_place_is_listed_as_unsayable_that_the_format_says(name: str, place: str) -> None:
    assert any(is_below(one, place) for one in differences(EVERYTHING, referral_of(name, EVERYTHING)))


@pytest.mark.parametrize("name", FORMATS)
def test_a_story_that_says_the_least_is_read_as_it_was_meant(name: str) -> None:
    assert misread(name, Story(), referral_of(name, Story())) == {}


@pytest.mark.parametrize("name", FORMATS)
@given(story=story_strategies.stories)
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
def test_any_story_is_read_as_it_was_meant(name: str, story: Story) -> None:
    assert misread(name, story, referral_of(name, story)) == {}


# ---- faults ----------------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """A story that is told wrongly: by `change`, at these places of the formats that refuse it. `read`: what HL7 v2 makes of it."""

    change: dict[str, Any]
    bars: str
    form: str
    row: str
    read: Callable[[Translated], bool]


def _is_left_to_a_person(place: str) -> Callable[[Translated], bool]:
    return lambda outcome: (
        [part.place for part in outcome.referral.to_be_read] == [place] if outcome.referral else False
    )


def _has_no_number(outcome: Translated) -> bool:
    person = outcome.referral.person if outcome.referral else None
    return person is not None and (person.nhs_number, person.nhs_number_status) == (None, "failed-check")


def _has_time_of_receipt(outcome: Translated) -> bool:
    return outcome.sent_at == RECEIVED_AT and [issue.place for issue in outcome.warnings] == ["MSH-7"]


_NUMBER = ("Patient.identifier", "nhs_number", "nhs_number", _has_no_number)
_BORN = ("Patient.birthDate", "birth_date", "birth_date", _is_left_to_a_person("PID-7"))
_NAMED = ("Patient.name", "family_name", "family_name", _is_left_to_a_person("PID-5"))
_SENT = ("Bundle.timestamp", "completed_at", "Changed", _has_time_of_receipt)

FAULTS = {
    "a number of ten equal digits": Fault({"number": plain("9999999999")}, *_NUMBER),
    "a number that is entered for none": Fault({"number": plain("9876543210")}, *_NUMBER),
    "a number that fails its check": Fault({"number": plain("9990000019")}, *_NUMBER),
    "a number with separators": Fault({"number": plain("9,990,000,018")}, *_NUMBER),
    "born tomorrow": Fault({"birth_date": date(2026, 11, 6)}, *_BORN),
    "born 136 years ago": Fault({"birth_date": date(1890, 11, 6)}, *_BORN),
    "born on the day that is entered for none": Fault({"birth_date": date(1900, 1, 1)}, *_BORN),
    "a name of nothing": Fault({"family": plain("-")}, *_NAMED),
    "a name of blanks and marks": Fault({"family": plain("\u00a0\u200b.")}, *_NAMED),
    "a name that is entered for none": Fault({"family": plain("Not known")}, *_NAMED),
    "sent in 2062": Fault({"sent_at": datetime(2062, 1, 1, tzinfo=UTC)}, *_SENT),
    "sent in six minutes": Fault({"sent_at": RECEIVED_AT + timedelta(minutes=6)}, *_SENT),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_fault_is_refused_by_its_place_or_in_hl7_v2_left_to_a_person(name: str, fault: str) -> None:
    one = FAULTS[fault]
    outcome = told(name, replace(Story(hospital_number="RWE12345"), **one.change))
    if name == "hl7v2":
        assert isinstance(outcome, Translated)
        assert one.read(outcome)
        return
    assert isinstance(outcome, Rejection)
    place = one.row if name == "workbook" else getattr(one, name)
    assert [_without_entry(issue.place) for issue in outcome.issues] == [place]


def _without_entry(place: str) -> str:
    """Return a FHIRPath with the resource's type for its entry: Bundle.entry[2].resource.name is Patient.name."""
    found = re.fullmatch(r"Bundle\.entry\[2\]\.resource\.(\w+).*", place)
    return f"Patient.{found[1]}" if found else place


@pytest.mark.parametrize("family", ["O\ufffdBrien", "O?Brien", "O&#39;Brien", "O\x92Brien"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_a_spoilt_name_with_one_warning(name: str, family: str) -> None:
    outcome = told(name, Story(family=plain(family)))
    assert isinstance(outcome, Translated)
    assert len(outcome.warnings) == 1


# ---- a conversation --------------------------------------------------------------------------------------------------


SECRET = b"the secret of these tests"
FIRST = replace(EVERYTHING, letter=None, died=False, died_on=None, sent_at=datetime(2026, 11, 5, 9, 0, tzinfo=UTC))
LATER = replace(
    FIRST, phone=plain("01632 960999"), text=plain("Home on Friday"), sent_at=FIRST.sent_at + timedelta(minutes=5)
)
OTHER = replace(LATER, family=plain("Holt"), birth_date=date(1951, 7, 1), number=plain("9990000026"))
CORRECTED = replace(LATER, family=plain("O'Sullivan"))


class Referrals:
    """What intake holds of one format's stories, in memory."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._batch = Batch([])

    def verdict(self, story: Story, kind: Kind = "new", **more: Any) -> str:
        """Return the verdict on a story after those before it."""
        write = FORMATS[self._name][1]
        inbound = _delivered(write(story, kind, **more))
        inbound = replace(inbound, request_id=f"{len(self._batch.decisions)}")
        outcome = FORMATS[self._name][0](inbound)
        assert isinstance(outcome, Translated), outcome
        reference = identifiers.reference(SECRET, "uhl", outcome.referral_id)
        self._batch.own["uhl", outcome.referral_id] = reference
        stored = a_stored_referral(partner="uhl", referral_id=outcome.referral_id, reference=reference)
        self._batch.referrals.setdefault(("uhl", reference), stored)
        batch.decide(self._batch, SECRET, PendingMessage(uuid4(), inbound, self._name, None, outcome, _no_answer))
        return self._batch.decisions[-1].verdict

    @property
    def referral(self) -> Referral:
        """The referral of the last event."""
        data = self._batch.events[-1].data
        assert isinstance(data, ReferralReceived | ReferralUpdated)
        return data.referral


def _no_answer(decision: MessageDecision) -> ProtocolResponse:
    return ProtocolResponse(200, b"")


@pytest.mark.parametrize("name", FORMATS)
def test_an_update_is_applied_and_an_older_one_is_not(name: str) -> None:
    held = Referrals(name)
    assert held.verdict(FIRST) == "received"
    assert held.verdict(LATER, "update") == "updated"
    assert misread(name, LATER, held.referral) == {}
    older = replace(FIRST, phone=plain("01632 960777"), sent_at=FIRST.sent_at - timedelta(minutes=5))
    assert held.verdict(older, "update") == "stale"


@pytest.mark.parametrize("name", FORMATS)
def test_what_an_update_no_longer_says_is_gone(name: str) -> None:
    held = Referrals(name)
    held.verdict(FIRST)
    less = replace(LATER, phone=None, email=None, language=None, interpreter=None, practice=None, practice_name=None)
    assert held.verdict(less, "update", **({"before": FIRST} if name == "hl7v2" else {})) == "updated"
    assert misread(name, less, held.referral) == {}


@pytest.mark.parametrize("name", FORMATS)
def test_another_person_under_a_known_reference_is_not_applied(name: str) -> None:
    held = Referrals(name)
    held.verdict(FIRST)
    assert held.verdict(OTHER, "update") == ("contradicted" if name == "hl7v2" else "other-person")


@pytest.mark.parametrize("name", FORMATS)
def test_a_corrected_family_name_is_applied(name: str) -> None:
    held = Referrals(name)
    held.verdict(FIRST)
    assert held.verdict(CORRECTED, "update") == "updated"
    assert held.referral.person.family_name == "O'Sullivan"


@pytest.mark.parametrize("kind", ["cancelled-by-referrer", "referred-in-error", "consent-withdrawn"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_cancel_ends_the_referral_for_its_reason(name: str, kind: Kind) -> None:
    held = Referrals(name)
    held.verdict(FIRST)
    outcome = told(name, LATER, kind)
    assert isinstance(outcome, Translated)
    assert (outcome.intent, outcome.cancel_reason, outcome.sent_at) == ("cancel", kind, LATER.sent_at)
    assert held.verdict(LATER, kind) == "cancelled"


@pytest.mark.parametrize("kind", ["cancelled-by-referrer", "consent-withdrawn"])
@pytest.mark.parametrize("name", FORMATS)
def test_only_a_withdrawal_applies_if_it_is_older_than_an_update(name: str, kind: Kind) -> None:
    held = Referrals(name)
    held.verdict(FIRST)
    held.verdict(LATER, "update")
    between = replace(FIRST, sent_at=FIRST.sent_at + timedelta(minutes=2))
    assert held.verdict(between, kind) == ("cancelled" if kind == "consent-withdrawn" else "not-applied")


# ---- the story is complete -------------------------------------------------------------------------------------------


def _leaves(model: type[BaseModel], at: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        place = f"{at}.{name}" if at else name
        inside = next(_models(field.annotation), None)
        yield from _leaves(inside, place) if inside else (place,)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        yield from (annotation,) if issubclass(annotation, BaseModel) else ()
    for one in get_args(annotation):
        yield from _models(one)


def test_a_story_fills_every_place_of_a_referral() -> None:
    said = {place.replace(".snomed", ".snomed") for place in places(meaning(EVERYTHING))}
    empty = {one for one in _leaves(Referral) if one not in said and not any(is_below(one, at) for at in NOT_TOLD)}
    assert empty == {"person.address.no_fixed_abode"}, "a ZZ99 postcode says it, in stories of Hypothesis"
    assert not {one for one in NOT_TOLD if not any(is_below(place, one) for place in _leaves(Referral))}
