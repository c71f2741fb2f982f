"""Builders that say "any", and given/when/then for decisions about one person key. Synthetic 999 NHS numbers only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from schemas.events import (
    CaseEvent,
    Command,
    CommandRefused,
    ReferralCancelled,
    ReferralContext,
    ReferralReceived,
    ReferralUpdated,
)
from schemas.model import OnsCode, PersonKey, Reference
from schemas.nhs_number import VerificationStatus
from schemas.referral import (
    Address,
    Attachment,
    Consent,
    Consents,
    HospitalStay,
    HousingNeed,
    Identifier,
    MessageIdentity,
    Organisation,
    Person,
    Reason,
    Referral,
    Referrer,
    Sender,
    ServiceCode,
)
from services.reference import directory as directories
from services.reference.directory import Directory
from services.router.decide import lifecycle
from services.router.decide.lifecycle import DecisionContext, EmittedEvent, EmittedRejection
from services.router.decide.model import CaseRecord, PersonAggregate, ReferralRecord

KEY = PersonKey("0f" * 16)
TODAY = date(2026, 11, 23)
DIRECTORY: Directory = directories.load(Path(__file__).parents[2] / "infra" / "reference_data")
NUMBER = "9990000026"

BLABY, CHARNWOOD, MELTON, LEICESTER, RUTLAND = (
    OnsCode(code) for code in ("E07000129", "E07000130", "E07000133", "E06000016", "E06000017")
)
POSTCODES = {"LE86AA": BLABY, "LE115AA": CHARNWOOD, "LE131AA": MELTON, "LE11AA": LEICESTER, "LE156AA": RUTLAND}
AT_BLABY, AT_CHARNWOOD, AT_MELTON, IN_THE_CITY = "LE8 6AA", "LE11 5AA", "LE13 1AA", "LE1 1AA"

YES, NO = Consent(answer="yes"), Consent(answer="no")
GP = Reference("LB-GP00-0000-0001")
WARD = Reference("LB-WARD-0000-0002")
FORM = Reference("LB-F0RM-0000-0003")


def an_address(postcode: str | None = AT_BLABY, **given: Any) -> Address:
    return Address(lines=("1 Any Street",), postcode=postcode, **given)


def a_person(**given: Any) -> Person:
    any_person: dict[str, Any] = {
        "nhs_number": NUMBER,
        "nhs_number_status": VerificationStatus.VERIFIED,
        "family_name": "Vickers",
        "given_names": ("Violet",),
        "birth_date": date(1946, 3, 4),
        "address": an_address(),
    }
    return Person(**{**any_person, **given})


def a_referral(*services: ServiceCode, postcode: str | None = AT_BLABY, **given: Any) -> Referral:
    """Any GP's referral of a person at home."""
    practice = Organisation(ods="C82991", name="Alder Lane Surgery")
    anything: dict[str, Any] = {
        "message": MessageIdentity(format="bars-fhir", message_id="m-1", referral_id="r-1"),
        "sent_by": Sender(partner="gp-alder-lane", organisation=practice),
        "referred_by": Referrer(kind="gp", organisation=practice, name="Dr Any Body"),
        "registered_practice": practice,
        "person": a_person(address=an_address(postcode)),
        "needs": tuple(HousingNeed(service=service) for service in services or ("minor-adaptations",)),
        "consents": Consents(referral=YES, feedback=YES),
        "referred_on": date(2026, 11, 20),
    }
    return Referral(**{**anything, **given})


def a_form(*services: ServiceCode, postcode: str | None = AT_BLABY, **given: Any) -> Referral:
    """Any checklist of First Contact Plus."""
    first_contact = Organisation(name="First Contact Plus")
    return a_referral(
        *(services or ("fire-safety",)),
        postcode=postcode,
        **{
            "message": MessageIdentity(format="form", message_id="f-1", referral_id="f-1"),
            "sent_by": Sender(partner="first-contact", organisation=first_contact),
            "referred_by": Referrer(kind="first-contact", organisation=first_contact),
            **given,
        },
    )


def a_ward_referral(*services: ServiceCode, site: str | None = "Leicester Royal Infirmary", **given: Any) -> Referral:
    """Any referral by the discharge team of an inpatient."""
    trust = Organisation(ods="RWE", name="University Hospitals of Leicester")
    return a_referral(
        *(services or ("homelessness",)),
        postcode=given.pop("postcode", AT_BLABY),
        **{
            "message": MessageIdentity(format="hl7v2", message_id="MSG7", referral_id="HOSP7"),
            "sent_by": Sender(partner="uhl", organisation=trust),
            "referred_by": Referrer(kind="hospital-team", organisation=trust, name="Nurse Ward"),
            "registered_practice": None,
            "hospital": HospitalStay(site=site, ward="Ward 23", admitted_on=date(2026, 11, 18)),
            "reason": Reason(text="Found on Ward 23 after a fall"),
            **given,
        },
    )


def a_bradgate_referral(*services: ServiceCode, **given: Any) -> Referral:
    """Any referral from the restricted unit: everything in it that could name the unit does."""
    trust = Organisation(ods="RT5", name="Leicestershire Partnership")
    person = a_person(local_ids=(Identifier(system="urn:lpt", value="BRADGATE-77"),))
    return a_ward_referral(
        *(services or ("arrears-benefits",)),
        **{
            "site": "Bradgate Unit",
            "message": MessageIdentity(format="hl7v2", message_id="BRADGATE-1", referral_id="BRADGATE-REF-1"),
            "sent_by": Sender(partner="lpt", organisation=trust),
            "referred_by": Referrer(kind="hospital-team", organisation=trust, name="Nurse Bradgate"),
            "reason": Reason(text="Admitted to the Bradgate Unit"),
            "person": person,
            "needs": (HousingNeed(service="arrears-benefits", text="arrears since Bradgate"),),
            "consents": Consents(referral=Consent(answer="yes", by="Bradgate ward clerk"), feedback=YES),
            "attachments": (Attachment(reference="bradgate-1", sha256="0" * 64, size=10, title="Bradgate INAT"),),
            **given,
        },
    )


def received(reference: Reference, referral: Referral, version: int = 1) -> ReferralReceived:
    return ReferralReceived(reference=reference, version=version, referral=referral)


def updated(reference: Reference, referral: Referral, version: int = 2) -> ReferralUpdated:
    return ReferralUpdated(reference=reference, version=version, referral=referral)


def cancelled(reference: Reference, version: int = 2, **given: Any) -> ReferralCancelled:
    return ReferralCancelled(reference=reference, version=version, **given)


@dataclass
class Story:
    """given(...).when(...).then(...): inputs in order under one key, and what was told to whom."""

    state: PersonAggregate = field(default_factory=lambda: PersonAggregate.empty(KEY))
    grounds: DecisionContext = field(default_factory=lambda: DecisionContext(DIRECTORY, POSTCODES, TODAY))
    happenings: list[EmittedEvent | EmittedRejection] = field(default_factory=list)
    all_happenings: list[EmittedEvent | EmittedRejection] = field(default_factory=list)
    commands: int = 0

    def when(self, *events: Any) -> Story:
        """Sender's messages; `happenings` are those of the last call."""
        self.happenings = []
        for event in events:
            self._take(lifecycle.apply(self.state, event, f"correlation of {event.reference}", self.grounds))
        return self

    def commanded(
        self, hub: str, command: type[Command], *, on: int | None = None, case: Any = None, **data: Any
    ) -> Story:
        """A hub commands, on the newest version that it was told, or on another."""
        chosen = case or self.case_of(hub)
        told = chosen.cursors.get(hub) if chosen else None
        self.commands += 1
        given = command(
            case_id=chosen.case_id if chosen else "none",
            person_key=KEY,
            expected_version=on or (told.version if told else 1),
            **data,
        )
        self.happenings = []
        self._take(lifecycle.decide(self.state, given, hub, f"command-{self.commands}", self.grounds))
        return self

    def _take(self, decision: lifecycle.CaseDecision) -> None:
        self.state = decision.state
        self.happenings += decision.emitted
        self.all_happenings += decision.emitted

    def case_of(self, hub: str) -> CaseRecord | None:
        told = [case for case in self.state.cases.values() if hub in case.cursors]
        return told[-1] if told else next(iter(self.state.cases.values()), None)

    # what came of it

    @property
    def case(self) -> CaseRecord:
        """The only case."""
        (case,) = self.state.cases.values()
        return case

    def referral(self, reference: Reference) -> ReferralRecord:
        return self.state.referrals[reference]

    @property
    def told(self) -> list[str]:
        """Types of the last events, such as 'opened'."""
        return [short(one.data) for one in self.happenings if isinstance(one, EmittedEvent)]

    @property
    def refused(self) -> CommandRefused | None:
        return next((one.data for one in self.happenings if isinstance(one, EmittedRejection)), None)

    def event(self, name: str) -> CaseEvent:
        """The last of the last events that has this name."""
        return next(
            one.data for one in reversed(self.happenings) if isinstance(one, EmittedEvent) and short(one.data) == name
        )

    def heard_by(self, hub: str, *, ever: bool = False) -> list[CaseEvent]:
        """What a hub was sent, lately or ever."""
        source = self.all_happenings if ever else self.happenings
        return [data for one in source if isinstance(one, EmittedEvent) for to, data in one.hubs if to == hub]

    def concerns(self, reference: Reference, *, ever: bool = False) -> list[tuple[str, ReferralContext]]:
        """(event, concern) of everything that the referrer of one referral hears, lately or ever."""
        source = self.all_happenings if ever else self.happenings
        return [
            (short(one.data), concern)
            for one in source
            if isinstance(one, EmittedEvent)
            for concern in one.data.referral_contexts
            if concern.reference == reference
        ]


def given(
    *events: Any, directory: Directory = DIRECTORY, postcodes: Mapping[str, OnsCode] = POSTCODES, on: date = TODAY
) -> Story:
    """A key to which these messages came."""
    return Story(grounds=DecisionContext(directory, postcodes, on)).when(*events)


def short(data: CaseEvent) -> str:
    """uk.lightbulb.case.opened.v1 -> opened"""
    return data.TYPE.split(".")[3]


def everything(named: Mapping[Reference, Iterable[ServiceCode]]) -> list[dict[str, Any]]:
    """`ended` of a command."""
    return [{"reference": reference, "needs": tuple(needs)} for reference, needs in named.items()]
