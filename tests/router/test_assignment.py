"""Which hub, and why: one example for each routing rule, which comes out otherwise when that rule is taken out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import permutations
from typing import Any

import pytest

from schemas.case import Pathway, RoutingReason
from schemas.model import HubId, Reference
from schemas.nhs_number import VerificationStatus
from schemas.referral import Consents, HospitalStay, Referral, ServiceCode
from services.reference.directory import Directory, Full
from services.router.decide import assignment
from services.router.decide.assignment import RULES, Assignment, Request, Rule, assign, what_is_read
from tests.builders.events import TODAY
from tests.builders.reference_data import (
    AT_BLABY,
    AT_CHARNWOOD,
    AT_MELTON,
    BLABY,
    CHARNWOOD,
    DIRECTORY,
    IN_THE_CITY,
    LEICESTER,
    MELTON,
    POSTCODES,
)
from tests.builders.referrals import (
    FORM,
    GP,
    NO,
    PART,
    WARD,
    YES,
    a_bradgate_referral,
    a_form,
    a_person,
    a_referral,
    a_ward_referral,
    an_address,
)


def placed(
    *referrals: tuple[Reference, Referral],
    directory: Directory = DIRECTORY,
    rules: Sequence[Rule] = RULES,
    already: HubId | None = None,
    death_confirmed: bool = False,
) -> Assignment:
    requests = [Request.of(reference, referral) for reference, referral in referrals]
    given: dict[str, Any] = {"assigned_hub": already, "death_confirmed": death_confirmed}
    return assign(requests, directory, POSTCODES, TODAY, **given, rules=rules)


def full(*hubs: str) -> Directory:
    declared = tuple(Full.model_validate({"hub": hub, "from": TODAY, "to": TODAY}) for hub in hubs)
    return DIRECTORY.model_copy(update={"full": declared, "version": "full"})


def homeless(**given: Any) -> Referral:
    return a_referral(person=a_person(address=an_address(None, no_fixed_abode=True)), **given)


@dataclass(frozen=True)
class Example:
    """What a rule does: its referrals, and where they belong by it."""

    rule: Rule
    referrals: tuple[tuple[Reference, Referral], ...]
    belongs: Callable[[Assignment], bool]
    directory: Directory = DIRECTORY
    already: HubId | None = None
    death_confirmed: bool = False


EXAMPLES = [
    Example(
        assignment.inpatient,
        ((WARD, a_ward_referral(postcode=AT_CHARNWOOD)),),
        lambda a: (a.holder, a.home_hub, a.pathway) == ("hospital-housing", "charnwood", Pathway.HOSPITAL),
    ),
    Example(
        assignment.already_open,
        ((GP, a_referral(postcode=AT_BLABY)), (FORM, a_form(postcode=AT_CHARNWOOD))),
        lambda a: (a.holder, RoutingReason.ALREADY_OPEN in a.reasons) == ("charnwood", True),
        already="charnwood",
    ),
    Example(
        assignment.housing_authority,
        ((GP, a_referral(postcode=AT_MELTON)),),
        lambda a: (a.holder, a.district) == ("melton", MELTON),
    ),
    Example(
        assignment.to_be_read,
        ((GP, a_ward_referral(hospital=None, to_be_read=(PART,))),),
        lambda a: (a.holder, a.home_hub, a.reasons) == ("triage", None, (RoutingReason.TO_BE_READ,)),
    ),
    Example(
        assignment.death_confirmed,
        ((GP, a_referral(postcode=IN_THE_CITY)),),
        lambda a: (a.holder, a.reasons) == ("triage", (RoutingReason.TO_BE_CHECKED,)),
        death_confirmed=True,
    ),
    Example(
        assignment.outside_county,
        ((GP, a_referral(postcode=IN_THE_CITY)),),
        lambda a: (a.pathway, a.home_hub, a.holder) == (Pathway.OUTSIDE, "leicester-city", None),
    ),
    Example(
        assignment.needs,
        ((GP, a_referral("blue-badge", "energy-loan")),),
        lambda a: (a.holder, a.pathway) == ("triage", Pathway.TRIAGE),
    ),
    Example(
        assignment.hub_full,
        ((GP, a_referral(postcode=AT_BLABY)),),
        lambda a: (a.holder, a.reasons[-1]) == ("oadby-wigston", RoutingReason.HUB_FULL_OVERFLOW),
        directory=full("blaby"),
    ),
    Example(
        assignment.not_decidable,
        ((GP, homeless()),),
        lambda a: (a.holder, a.reasons) == ("triage", (RoutingReason.NOT_DECIDABLE,)),
    ),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.rule.__name__ for example in EXAMPLES])
def test_each_rule_decides_its_example_and_without_the_rule_the_result_differs(example: Example) -> None:
    others = [rule for rule in RULES if rule is not example.rule]
    given: dict[str, Any] = {"directory": example.directory, "already": example.already}
    given["death_confirmed"] = example.death_confirmed

    assert example.belongs(placed(*example.referrals, **given))
    assert not example.belongs(placed(*example.referrals, rules=others, **given))


def test_every_rule_has_an_example() -> None:
    assert [example.rule for example in EXAMPLES] == list(RULES)


# ---- inpatients -----------------------------------------------------------------------------------------------------


def test_a_hospital_stay_is_assigned_to_the_worklist_of_its_site() -> None:
    found = placed((WARD, a_ward_referral(site="Glenfield Hospital")))

    assert (found.holder, found.worklist) == ("hospital-housing", "Glenfield")


def test_a_stay_in_the_restricted_unit_is_assigned_to_the_restricted_team() -> None:
    assert placed((WARD, a_bradgate_referral())).holder == "hospital-housing-bradgate"


def test_an_inpatient_from_the_city_is_held_by_the_hospital_team_and_the_city_follows_on() -> None:
    found = placed((WARD, a_ward_referral(postcode=IN_THE_CITY)))

    assert (found.holder, found.home_hub, found.pathway) == ("hospital-housing", "leicester-city", Pathway.HOSPITAL)


def test_a_discharged_person_is_not_an_inpatient() -> None:
    assert placed((WARD, a_ward_referral(discharged_on=TODAY))).holder == "blaby"


def test_the_stay_with_the_latest_admission_decides() -> None:
    earlier = a_ward_referral(hospital=HospitalStay(site="Glenfield", admitted_on=date(2026, 11, 1)))
    later = a_bradgate_referral(hospital=HospitalStay(site="Bradgate Unit", admitted_on=date(2026, 11, 9)))

    assert placed((WARD, earlier), (FORM, later)).holder == "hospital-housing-bradgate"


# ---- the housing authority ------------------------------------------------------------------------------------------


def test_the_authority_that_the_person_named_has_priority_over_every_address() -> None:
    named = a_ward_referral(postcode=AT_BLABY, named_authority=CHARNWOOD)

    found = placed((WARD, named), (GP, a_referral(postcode=AT_MELTON)))

    assert (found.home_hub, RoutingReason.NAMED_AUTHORITY in found.reasons) == ("charnwood", True)


def test_an_authority_named_without_consent_is_ignored() -> None:
    named = a_referral(named_authority=CHARNWOOD, consents=Consents(referral=NO))

    assert placed((GP, named)).home_hub == "blaby"


def test_no_fixed_abode_with_a_named_authority_is_assigned_to_that_authority() -> None:
    found = placed((WARD, a_ward_referral(person=homeless().person, named_authority=CHARNWOOD)))

    assert (found.holder, found.home_hub, found.district) == ("hospital-housing", "charnwood", CHARNWOOD)


def test_the_district_is_the_persons_home_district_even_if_the_hub_or_named_authority_differs() -> None:
    found = placed((GP, a_referral(postcode=AT_BLABY, named_authority=CHARNWOOD, consents=Consents(referral=YES))))

    assert (found.home_hub, found.district) == ("charnwood", BLABY)


def test_a_councils_district_has_priority_over_a_postcode() -> None:
    told = a_form(person=a_person(address=an_address(AT_BLABY, district=MELTON)))

    found = placed((FORM, told), (GP, a_referral(postcode=AT_CHARNWOOD, referred_on=date(2026, 1, 1))))

    assert (found.home_hub, found.reasons) == ("melton", (RoutingReason.COUNCIL_DISTRICT,))


def test_the_community_address_has_priority_over_the_address_in_the_hospitals_record() -> None:
    ward = a_ward_referral(postcode=AT_MELTON, referred_on=date(2026, 1, 1))

    found = placed((WARD, ward), (GP, a_referral(postcode=AT_CHARNWOOD)))

    assert found.home_hub == "charnwood"


def test_the_hospitals_address_is_used_if_there_is_no_other() -> None:
    found = placed((WARD, a_ward_referral(postcode=AT_MELTON)))

    assert found.reasons == (RoutingReason.INPATIENT, RoutingReason.WARD_POSTCODE)


def test_among_equal_referrals_the_earliest_decides_then_the_lowest_reference() -> None:
    early = a_form(postcode=AT_MELTON, referred_on=date(2026, 11, 1))
    late = a_referral(postcode=AT_BLABY, referred_on=date(2026, 11, 2))
    undated = a_referral(postcode=AT_CHARNWOOD, referred_on=None)

    assert placed((GP, late), (FORM, early)).home_hub == "melton"
    assert placed((WARD, undated), (GP, late)).home_hub == "blaby"
    same_day = late.model_copy(update={"person": a_person(address=an_address(AT_MELTON))})
    assert placed((GP, late), (FORM, same_day)).home_hub == "melton", "FORM is the smaller reference"


def test_an_unknown_postcode_is_ignored() -> None:
    assert placed((GP, a_referral(postcode="ZE1 0AA"))).reasons == (RoutingReason.NOT_DECIDABLE,)


def test_the_order_of_arrival_does_not_change_the_assignment() -> None:
    referrals = [
        (GP, a_referral(postcode=AT_BLABY)),
        (FORM, a_form("blue-badge", postcode=AT_CHARNWOOD)),
        (WARD, a_ward_referral(postcode=AT_MELTON)),
    ]

    assert len({placed(*order) for order in permutations(referrals)}) == 1


# ---- outside, needs, capacity, triage -------------------------------------------------------------------------------


def test_a_named_authority_outside_the_county_is_the_home() -> None:
    named = a_referral(named_authority=LEICESTER)

    assert (placed((GP, named)).pathway, placed((GP, named)).home_hub) == (Pathway.OUTSIDE, "leicester-city")


@pytest.mark.parametrize(
    "needs",
    [("blue-badge", "home-safety"), ("handyperson",), ("rent-deposit",)],
    ids=["one of two", "commissioned", "hospital's"],
)
def test_a_need_that_is_not_only_referred_onward_leads_to_a_housing_mot(needs: tuple[ServiceCode, ...]) -> None:
    found = placed((GP, a_referral(*needs)))

    assert (found.holder, found.pathway) == ("blaby", Pathway.HOUSING_MOT)


def test_a_referral_without_needs_leads_to_a_housing_mot() -> None:
    assert placed((GP, a_referral(needs=()))).pathway is Pathway.HOUSING_MOT


def test_the_triage_desk_is_chosen_by_the_way_the_referral_arrived() -> None:
    by_gp = placed((GP, a_referral("blue-badge")))
    by_form = placed((FORM, a_form("blue-badge")))
    by_telephone = placed((FORM, a_form("blue-badge", referred_by={"kind": "family"}, sent_by=_customer_service())))

    assert [found.worklist for found in (by_gp, by_form, by_telephone)] == [
        "First Contact Plus",
        "First Contact Plus",
        "Customer Service Centre",
    ]


def _customer_service() -> dict[str, Any]:
    return {"partner": "customer-service", "organisation": {"name": "Customer Service Centre"}}


def test_a_full_hub_without_overflow_has_a_waiting_list_which_the_reasons_state() -> None:
    found = placed((GP, a_referral(postcode=AT_CHARNWOOD)), directory=full("charnwood"))

    assert (found.holder, found.pathway) == ("charnwood", Pathway.WAITING_LIST)
    assert RoutingReason.HUB_FULL_WAITING_LIST in found.reasons


def test_a_full_overflow_hub_leads_to_its_own_overflow_or_back_to_the_waiting_list() -> None:
    found = placed((GP, a_referral(postcode=AT_BLABY)), directory=full("blaby", "oadby-wigston"))

    assert (found.holder, found.pathway) == ("blaby", Pathway.WAITING_LIST)


def test_a_hub_is_full_only_between_its_start_and_end_dates() -> None:
    request = [Request.of(GP, a_referral(postcode=AT_BLABY))]

    found = assign(request, full("blaby"), POSTCODES, date(2026, 11, 24))

    assert found.holder == "blaby"


def test_a_referral_whose_number_failed_its_check_goes_to_triage_also_from_a_hospital() -> None:
    failed = a_person(nhs_number=None, nhs_number_status=VerificationStatus.FAILED_CHECK)

    found = placed((WARD, a_ward_referral(person=failed)))

    assert (found.holder, found.pathway, found.home_hub) == ("triage", Pathway.TRIAGE, None)


def test_a_failed_number_from_the_restricted_unit_stays_with_the_restricted_team() -> None:
    failed = a_person(nhs_number=None, nhs_number_status=VerificationStatus.FAILED_CHECK)

    assert placed((WARD, a_bradgate_referral(person=failed))).holder == "hospital-housing-bradgate"


@pytest.mark.parametrize(
    "change",
    [
        {"referred_on": date(2026, 1, 1)},
        {"named_authority": CHARNWOOD},
        {"discharged_on": TODAY},
        {"person": a_person(address=an_address(AT_MELTON))},
        {"hospital": HospitalStay(site="Glenfield")},
        {"needs": ()},
        {"consents": Consents(referral=NO)},
    ],
)
def test_a_change_of_a_field_that_the_rules_read_is_detected(change: dict[str, Any]) -> None:
    before = a_ward_referral()

    assert what_is_read(before.model_copy(update=change)) != what_is_read(before)


def test_a_change_of_a_field_that_the_rules_ignore_is_not_detected() -> None:
    before = a_referral()
    after = before.model_copy(update={"person": a_person(phone="0116 496 0999"), "priority": "urgent"})

    assert what_is_read(after) == what_is_read(before)
