"""One referral, built in three formats, is translated to the same person."""

from collections.abc import Callable

import pytest

from schemas.referral import Person, Referral
from services.intake.translators.translator import Translated
from tests.builders.bars import a_bars_message, as_bytes
from tests.builders.csv import a_file, a_row
from tests.builders.hl7v2 import a_ref_i12
from tests.builders.referrals import a_referral
from tests.contract.translators.golden_pairs import FULL

BUILDERS: dict[str, Callable[[Referral], bytes]] = {
    "bars_fhir": lambda referral: as_bytes(a_bars_message(referral)),
    "hl7v2-uhl": a_ref_i12,
    "council-blaby": lambda referral: a_file("blaby", [a_row("blaby", referral)]),
}


def identity(person: Person) -> tuple[object, ...]:
    address = (person.address.lines, person.address.postcode)
    return person.nhs_number, person.family_name, person.given_names, person.birth_date, address


@pytest.mark.parametrize("name", BUILDERS)
def test_a_built_message_holds_the_person_of_the_referral(name: str) -> None:
    referral = a_referral()
    outcome = FULL[name].translate(FULL[name].delivery(BUILDERS[name](referral)))
    assert isinstance(outcome, Translated)
    assert outcome.referral is not None
    assert identity(outcome.referral.person) == identity(referral.person)


def test_a_built_bars_message_holds_the_needs_of_the_referral() -> None:
    referral = a_referral("minor-adaptations", "fire-safety")
    adapter = FULL["bars_fhir"]
    outcome = adapter.translate(adapter.delivery(BUILDERS[adapter.name](referral)))
    assert isinstance(outcome, Translated)
    assert outcome.referral is not None
    assert [need.service for need in outcome.referral.needs] == [need.service for need in referral.needs]
