"""ADT: which referrals a message concerns, and what it changes in them."""

import itertools
from datetime import UTC, date, datetime
from typing import Any

import pytest

from schemas.referral import Referral
from services.intake.translators.hl7v2.stay_identity import StayIdentity
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Translated
from tests.builders.hl7v2 import a_stay, a_uhl_message, an_adt, an_lpt_message
from tests.contract.translators.adapters import ATTACHMENT_KEY, HL7V2, PARTNERS

RECEIVED_AT = datetime(2026, 12, 1, tzinfo=UTC)
TRIGGERS = ("A01", "A02", "A03", "A08", "A11", "A12", "A13", "A31")


def translated(message: bytes, received_at: datetime = RECEIVED_AT, of: str = "uhl") -> Translated:
    partner = PARTNERS.by_id(of)
    assert partner is not None
    outcome = HL7V2(InboundMessage(partner, message, received_at, ATTACHMENT_KEY))
    assert isinstance(outcome, Translated), outcome
    return outcome


class Held:
    """A referral as intake holds it, and what ADT, or an update (I13), makes of it."""

    def __init__(self, received_at: datetime = RECEIVED_AT, **changes: Any) -> None:
        self.received_at = received_at
        first = translated(a_stay(**changes), received_at)
        self.keys, self.fields, self.referral = first.visit_keys, first.fields, first.referral

    def then(self, trigger: str, **changes: Any) -> bool:
        """Apply a message, and return whether it concerns the referral."""
        message = translated(an_adt(trigger, **changes), self.received_at)
        assert message.visit is not None
        assert message.of_referral is not None
        if not self.keys & set(message.visit.keys):
            return False
        return self._take(message.of_referral("UHL-R-1"))

    def updated(self, **changes: Any) -> None:
        """Apply an update of the referral itself."""
        assert self._take(translated(a_uhl_message(trigger="I13", **changes), self.received_at))

    def _take(self, message: Translated) -> bool:
        assert message.complete is not None
        assert self.fields is not None
        after = message.complete(self.fields)
        if after is None:
            return False
        assert isinstance(after, Translated), after
        self.keys, self.fields, self.referral = after.visit_keys, after.fields, after.referral
        return True

    @property
    def now(self) -> Referral:
        assert self.referral is not None
        return self.referral

    @property
    def stay(self) -> Any:
        assert self.now.hospital is not None
        return self.now.hospital


# ---- whom it concerns -----------------------------------------------------------------------------------------------

WAYS: dict[str, tuple[dict[str, Any], bool]] = {
    "by visit": ({}, True),
    "by visit, with another day and site": ({"site": "GH", "admitted": "20261030"}, True),
    "by visit, without the hospital number": ({"number": ""}, True),
    "by hospital number, site and day": ({"visit": ""}, True),
    "visit of another authority, with hospital number, site and day": ({"visit": "V1^^^PAS"}, True),
    "another visit of the same authority": ({"visit": "V2^^^UHL"}, False),
    "at another site": ({"visit": "", "site": "GH"}, False),
    "on another day": ({"visit": "", "admitted": "20261029"}, False),
    "without a day": ({"visit": "", "admitted": ""}, False),
    "number of another authority": ({"visit": "", "number": "RWE12345^^^LPT^PAS"}, False),
    "number without an authority": ({"visit": "", "number": "RWE12345"}, False),
    "stranger": ({"visit": "V7^^^UHL", "number": "RWE7^^^UHL^MRN", "nhs_number": "9990000026"}, False),
    "NHS number alone": ({"visit": "", "number": ""}, False),
    "NHS number as a hospital number": ({"visit": "", "number": "9990000018^^^UHL^MRN"}, False),
    "outpatient": ({"patient_class": "O"}, False),
}


@pytest.mark.parametrize(("trigger", "way"), list(itertools.product(TRIGGERS, WAYS)))
def test_a_message_concerns_a_stay_by_visit_or_by_hospital_number_site_and_day(trigger: str, way: str) -> None:
    changes, concerns = WAYS[way]
    assert Held().then(trigger, **changes) is concerns


def test_two_stays_with_the_nhs_number_as_hospital_number_are_not_one() -> None:
    held = Held(PID="PID|||9990000018^^^UHL^MRN||Vance^Ada")
    assert not held.then("A03", visit="", number="9990000018^^^UHL^MRN", nhs_number="")


@pytest.mark.parametrize("patient_class", ["O", "E"])
def test_a_referral_that_is_not_of_a_stay_is_never_found(patient_class: str) -> None:
    held = Held(fields={"PV1-2": patient_class})
    assert not any(held.then(trigger) for trigger in TRIGGERS)


@pytest.mark.parametrize("trigger", ["A04", "A05", "A28", "A60", "Z99"])
def test_a_trigger_that_is_not_read_has_no_keys(trigger: str) -> None:
    visit = translated(an_adt(trigger)).visit
    assert visit is not None
    assert (visit.trigger, visit.keys) == ("other", ())


def test_stays_of_test_messages_are_found_by_test_messages_only() -> None:
    visit, number = frozenset({("uhl", "V1")}), frozenset({("uhl", "RWE12345")})
    real, test = (StayIdentity(visits=visit, numbers=number, is_test=is_test) for is_test in (False, True))
    assert real.stay_keys
    assert real.number_keys
    assert not (real.stay_keys | real.number_keys) & (test.stay_keys | test.number_keys)


def test_a_transfer_between_sites_is_found_by_the_location_before() -> None:
    held = Held()
    assert held.then("A02", visit="", site="GH", ward="W5", fields={"PV1-6": "W23^B^4^LRI"})
    assert (held.stay.site, held.stay.ward) == ("Glenfield", "W5")
    assert held.then("A03", visit="", site="GH", fields={"PV1-45": "20261107"})
    assert held.now.discharged_on == date(2026, 11, 7)


def test_a_stay_without_visit_number_learns_it() -> None:
    held = Held(fields={"PV1-19": ""})
    assert held.then("A08")
    assert held.then("A03", number="")


# ---- what it changes ------------------------------------------------------------------------------------------------


def test_an_admission_says_ward_and_day() -> None:
    held = Held(PV1="PV1||I|^^^LRI")
    assert (held.stay.ward, held.stay.admitted_on) == (None, None)
    assert held.then("A01", ward="W9")
    assert (held.stay.ward, held.stay.admitted_on) == ("W9", date(2026, 10, 28))


def test_a_cancelled_transfer_brings_the_ward_back() -> None:
    held = Held()
    held.then("A02", ward="W9", sent_at="20261106100000")
    held.then("A12", ward="W23", sent_at="20261106110000")
    assert held.stay.ward == "W23"


def test_a_discharge_ends_the_stay_and_keeps_what_the_referral_said() -> None:
    held = Held()
    before = held.now
    held.then("A03", fields={"PV1-36": "19", "PV1-45": "20261107140000"})
    assert held.now.discharged_on == date(2026, 11, 7)
    kept = {"needs", "consents", "risk_flags", "referred_by", "registered_practice", "contacts", "referred_on"}
    assert held.now.model_dump(include=kept) == before.model_dump(include=kept)
    assert held.now.reason.code == before.reason.code
    assert held.now.message.referral_id == "UHL-R-1"


@pytest.mark.parametrize(
    ("fields", "day"),
    [
        ({}, date(2026, 11, 6)),
        ({"EVN-6": "20261105"}, date(2026, 11, 5)),
        ({"EVN-2": ""}, date(2026, 11, 6)),
        *(
            ({"PV1-45": unknown}, date(2026, 11, 6))
            for unknown in ('""', "^^^", "2026", "202611", "20261100", "00000000")
        ),
    ],
)
def test_a_discharge_without_a_day_is_that_of_the_event(fields: dict[str, str], day: date) -> None:
    held = Held()
    held.then("A03", fields=fields)
    assert held.now.discharged_on == day


def days(held: Held) -> tuple[date | None, date | None]:
    return held.now.expected_discharge_on, held.now.discharged_on


@pytest.mark.parametrize("by_adt", [True, False])
def test_a_discharge_in_the_future_is_expected_until_a_message_says_it_again(by_adt: bool) -> None:
    day, fields = date(2026, 11, 10), {"PV1-45": "20261110"}
    held = Held(datetime(2026, 11, 6, 12, tzinfo=UTC), fields={} if by_adt else fields)
    if by_adt:
        held.then("A03", fields=fields)
    assert days(held) == (day, None)
    held.received_at = datetime(2026, 11, 12, 12, tzinfo=UTC)
    held.then("A08", sent_at="20261112100000", ward="W9")
    held.updated(sent_at="20261112103000", control_id="UHL2", PV1=None, PV2=None, fields={"PID-13": "0116 496 0009"})
    assert days(held) == (day, None)
    held.then("A03", sent_at="20261112110000", fields=fields)
    assert days(held) == (date(2026, 11, 12), day)


@pytest.mark.parametrize("said", ["PV2|||||||||20261115", "OBX|1|DT|LB-EDD||20261115||||||F"])
def test_the_expected_day_that_was_said_last_counts(said: str) -> None:
    held = Held(datetime(2026, 11, 6, 12, tzinfo=UTC))
    held.then("A03", fields={"PV1-45": "20261110"})
    held.updated(sent_at="20261106110000", control_id="UHL2", PV1=None, PV2=None, more=[said])
    assert days(held) == (date(2026, 11, 15), None)
    held.then("A03", sent_at="20261106113000", fields={"PV1-45": "20261111"})
    assert days(held) == (date(2026, 11, 11), None)


def test_the_same_message_is_the_same_on_any_day() -> None:
    message = a_stay(fields={"PV1-45": "20261110"})
    early, late = (translated(message, datetime(2026, 11, day, tzinfo=UTC)) for day in (6, 12))
    assert (early.message_ids, early.content_hash) == (late.message_ids, late.content_hash)


# ---- numbers of another system, and a clinic's visit ----------------------------------------------------------------


def test_a_discharge_under_another_systems_visit_number_stays_said() -> None:
    held = Held()
    held.then("A03", visit="V555^^^PAS", sent_at="20261107100000", fields={"PV1-45": "20261107"})
    held.updated(sent_at="20261108100000", control_id="UHL2", fields={"PV1-19": "V1^^^UHL", "PID-13": "0116 496 0009"})
    assert held.now.discharged_on == date(2026, 11, 7)


@pytest.mark.parametrize("visit", [{"PV1-19": "V2^^^UHL"}, {"PV1-19": "V2^^^PAS", "PV1-44": "20261109"}])
def test_the_end_of_a_visit_is_not_that_of_the_next_one(visit: dict[str, str]) -> None:
    held = Held()
    held.then("A03", sent_at="20261107100000", fields={"PV1-45": "20261107"})
    held.updated(sent_at="20261109100000", control_id="UHL2", fields=visit)
    assert held.now.discharged_on is None


@pytest.mark.parametrize("code", ["O", "E", "O^Outpatient", "o"])
def test_a_clinics_visit_says_nothing_of_the_stay(code: str) -> None:
    held = Held()
    stay = held.stay
    clinic = {"PV1-2": code, "PV1-3": "CLINIC^^^GH", "PV1-19": "V9^^^UHL", "PID-13": "0116 496 0009"}
    held.updated(sent_at="20261106100000", control_id="UHL2", fields=clinic)
    assert held.stay == stay
    assert held.now.person.phone is not None
    assert held.then("A03", sent_at="20261107100000", fields={"PV1-45": "20261107"})
    assert held.now.discharged_on == date(2026, 11, 7)


@pytest.mark.parametrize(
    ("sender", "location", "site"),
    [
        ("RT5^LBH", "OPU", "Loughborough Hospital"),
        ("RT5", None, "Loughborough Hospital"),
        ("RT5", "OPU", None),
        ("RT5^BMHU", None, "Bradgate Unit"),
    ],
)
def test_a_sender_without_a_site_moves_nobody_unless_it_gives_a_location(
    sender: str, location: str | None, site: str | None
) -> None:
    by_trust = {"RT5^BMHU": sender, "|BLABY|": "|LIGHTBULB|"}
    first = translated(_replaced(an_lpt_message(fields={"PV1-3": "OPU"}), by_trust | {"RT5^BMHU": "RT5^LBH"}), of="lpt")
    stay = {"fields": {"PV1-3": location}} if location else {"PV1": None}
    update = an_lpt_message(trigger="I13", control_id="LPT2", sent_at="20261106093000", **stay)
    later = translated(_replaced(update, by_trust), of="lpt")
    assert later.complete is not None
    assert first.fields is not None
    after = later.complete(first.fields)
    assert isinstance(after, Translated), after
    assert after.referral is not None
    assert after.referral.hospital is not None
    assert (after.referral.hospital.ward, after.referral.hospital.site) == ("OPU", site)


def _replaced(message: bytes, words: dict[str, str]) -> bytes:
    for word, other in words.items():
        message = message.replace(word.encode(), other.encode())
    return message


@pytest.mark.parametrize("fields", [{"PID-30": "Y"}, {"PID-29": "20261106"}, {"PV1-36": "79"}])
def test_a_death_is_reported_by_a_discharge(fields: dict[str, str]) -> None:
    held = Held()
    held.then("A03", fields={"PV1-45": "20261106"} | fields)
    assert held.now.person.death_reported is not None


def test_a_discharge_to_another_organisations_hospital_is_a_move() -> None:
    held = Held()
    held.then("A03", fields={"PV1-36": "51", "PV1-37": "RNS", "PV1-45": "20261106"})
    assert (held.stay.moved_to, held.now.discharged_on) == ("RNS", date(2026, 11, 6))


@pytest.mark.parametrize("written", ["GH", "GH^20261106", "GH&Glenfield Hospital&L^20261106"])
def test_a_discharge_to_a_site_of_the_same_team_is_a_transfer(written: str) -> None:
    held = Held()
    held.then("A03", fields={"PV1-37": written, "PV1-45": "20261106"})
    assert (held.stay.site, held.stay.ward, held.stay.moved_to) == ("Glenfield", None, None)
    assert held.now.discharged_on is None


def test_an_expected_discharge_counts_that_was_said_last_in_whichever_place() -> None:
    held = Held(more=["OBX|2|DT|LB-EDD||20261112||||||F"])
    assert held.now.expected_discharge_on == date(2026, 11, 12)
    held.then("A08", sent_at="20261106100000", more=["PV2|||||||||20261114"])
    assert held.now.expected_discharge_on == date(2026, 11, 14)
    held.then("A08", sent_at="20261106110000", more=['PV2|||||||||""'])
    assert held.now.expected_discharge_on is None


def test_of_two_visits_in_a_message_the_second_ends_no_stay() -> None:
    held = Held()
    held.then("A08", more=["PV1|2|I|W9^^^LRI||||||||||||||||V9||||||||||||||||||||||||||20261106"])
    assert (held.stay.ward, held.now.discharged_on) == ("W23", None)


def test_a_death_at_a_site_of_the_same_team_is_no_transfer() -> None:
    held = Held()
    held.then("A03", fields={"PV1-36": "79", "PV1-37": "GH", "PV1-45": "20261106"})
    assert held.now.person.death_reported is not None
    assert held.now.discharged_on == date(2026, 11, 6)


def test_a_discharge_deletes_the_destination_of_an_earlier_one() -> None:
    held = Held()
    held.then("A03", sent_at="20261106100000", fields={"PV1-36": "51", "PV1-37": "RNS", "PV1-45": "20261106"})
    held.then("A03", sent_at="20261106110000", fields={"PV1-36": "19", "PV1-45": "20261106"})
    assert held.stay.moved_to is None


def test_a_cancelled_discharge_brings_the_person_back_and_a_later_one_counts_again() -> None:
    held = Held()
    held.then("A03", sent_at="20261106100000", fields={"PV1-36": "51", "PV1-45": "20261106"})
    assert held.then("A13", sent_at="20261106110000", fields={"PV1-45": "20261106"})
    assert (held.now.discharged_on, held.stay.moved_to, held.stay.ward) == (None, None, "W23")
    held.then("A03", sent_at="20261107100000", fields={"PV1-45": "20261107"})
    assert held.now.discharged_on == date(2026, 11, 7)


@pytest.mark.parametrize("trigger", ["A01", "A02", "A08", "A31"])
def test_after_a_discharge_the_person_is_still_updated_and_the_stay_remains_ended(trigger: str) -> None:
    held = Held()
    held.then("A03", sent_at="20261106100000", fields={"PV1-45": "20261106"})
    assert held.then(trigger, sent_at="20261107100000", fields={"PID-30": "Y", "PID-13": "0116 496 0009"})
    assert (held.now.discharged_on, held.now.person.phone) == (date(2026, 11, 6), "0116 496 0009")
    assert held.now.person.death_reported is not None


def test_a_cancelled_admission_ends_the_stay_until_an_admission() -> None:
    held = Held()
    held.then("A11", sent_at="20261106100000")
    assert held.stay.admission_cancelled
    held.then("A08", sent_at="20261106103000")
    assert held.stay.admission_cancelled
    held.then("A01", sent_at="20261106110000")
    assert not held.stay.admission_cancelled


@pytest.mark.parametrize("trigger", ["A08", "A31"])
def test_an_update_changes_what_it_says_of_the_person_and_nothing_else(trigger: str) -> None:
    held = Held()
    before = held.now.person
    held.then(
        trigger,
        family="Vance-Hill",
        fields={"PID-11": "9 New Road^^Syston^^LE7 1AA^^H", "PID-13": '""', "PID-32": "NSTS04", "PID-15": "PL"},
        more=["PD1||||||||||||Y"],
    )
    now = held.now.person
    assert (now.family_name, now.address and now.address.postcode, now.phone) == ("Vance-Hill", "LE7 1AA", None)
    assert (now.restricted_access, now.gender) == (True, before.gender)
    assert (now.nhs_number, now.nhs_number_status) == (before.nhs_number, before.nhs_number_status)


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_identifiers_and_what_only_a_referral_says_never_change(trigger: str) -> None:
    held = Held()
    before = held.now
    more = ["PD1|||Other Surgery^^^^^^^^^C82992", "NK1|1|Hill^Jo", "OBX|1|CE|LB-CONSENT||N||||||F", "NTE|1||a comment"]
    held.then(trigger, number="RWE12345^^^UHL^MRN~RWE999^^^UHL^MRN", nhs_number="9990000026", more=more)
    same = ("nhs_number", "local_ids", "nhs_number_status", "birth_date")
    assert [getattr(held.now.person, name) for name in same] == [getattr(before.person, name) for name in same]
    assert (held.now.registered_practice, held.now.contacts) == (before.registered_practice, before.contacts)
    assert (held.now.consents, held.now.reason, held.now.risk_flags) == (
        before.consents,
        before.reason,
        before.risk_flags,
    )


def test_a_birth_date_is_corrected_but_neither_it_nor_the_name_is_deleted() -> None:
    held = Held()
    held.then("A08", sent_at="20261106100000", fields={"PID-7": "19440301"})
    assert held.now.person.birth_date == date(1944, 3, 1)
    held.then("A08", sent_at="20261106110000", fields={"PID-7": '""', "PID-5": '""'})
    assert (held.now.person.birth_date, held.now.person.family_name) == (date(1944, 3, 1), "Vance")


# ---- order ----------------------------------------------------------------------------------------------------------

STORY: list[tuple[str, dict[str, Any]]] = [
    ("A01", {"sent_at": "20261105100000", "ward": "W1"}),
    ("A02", {"sent_at": "20261106100000", "ward": "W2", "fields": {"PID-13": "0116 496 0002"}}),
    ("A03", {"sent_at": "20261107100000", "ward": "W2", "fields": {"PV1-36": "51", "PV1-45": "20261107"}}),
    ("A13", {"sent_at": "20261108100000", "ward": "W2"}),
    ("A03", {"sent_at": "20261109100000", "ward": "W2", "fields": {"PV1-36": "19", "PV1-45": "20261109"}}),
]


@pytest.mark.parametrize("length", [2, 3, 4, 5])
def test_messages_in_any_order_have_the_effect_of_their_own_order(length: int) -> None:
    told = STORY[:length]
    expected = None
    for order in itertools.permutations(told):
        held = Held()
        for trigger, changes in order:
            assert held.then(trigger, **changes)
        seen = (held.now.discharged_on, held.stay.moved_to, held.stay.ward, held.now.person.phone)
        expected = expected or seen
        assert seen == expected, order
    assert expected is not None
    assert expected[2:] == ("W2", "0116 496 0002")


# ---- merge ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "merged", "concerns"),
    [
        ("RWE12345^^^UHL^MRN", "RWE7^^^UHL^MRN", True),
        ("RWE7^^^UHL^MRN", "RWE12345^^^UHL^MRN", True),
        ("RWE7^^^UHL^MRN", "RWE8^^^UHL^MRN", False),
        ("RWE7^^^UHL^MRN", "RWE12345^^^LPT^PAS", False),
        ("", "9990000018^^^NHS^NHS", False),
    ],
)
@pytest.mark.parametrize("patient_class", ["I", "O"])
def test_a_merge_concerns_every_referral_with_either_hospital_number(
    number: str, merged: str, concerns: bool, patient_class: str
) -> None:
    visit = translated(an_adt("A40", number=number, more=[f"MRG|{merged}"])).visit
    assert visit is not None
    assert visit.is_merge
    assert bool(set(visit.keys) & Held(fields={"PV1-2": patient_class}).keys) is concerns
