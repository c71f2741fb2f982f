"""I5: what must not be disclosed: a stay in hospital, the restricted unit, and where a person with restricted data lives."""

import re
from collections.abc import Iterator

from tests.chaos.harness.evidence import Evidence
from tests.chaos.harness.topic_records import first_occurrences, type_of

HOSPITAL = "hospital-housing"
RESTRICTED = "hospital-housing-bradgate"
WORDS_OF_A_STAY = re.compile(r"\b(hospital|infirmary|glenfield|bradgate|ward|inpatient)\b", re.IGNORECASE)
NAMES_OF_THE_UNIT = re.compile(rb"bradgate|\bRT5\b|LPT_PAS|\"lpt\"|Leicestershire Partnership", re.IGNORECASE)
"""Names of the restricted unit or its trust. A reference of the hub may contain RT5 by chance."""

HOSPITAL_SITES = re.compile(rb"Leicester Royal Infirmary|Glenfield")


def stays_are_not_disclosed(e: Evidence) -> Iterator[str]:
    yield from _words_in_feedback(e)
    yield from _events_of_hospital_teams(e)
    yield from _restricted_unit_at_other_hubs(e)
    yield from _stays_at_other_hubs(e)
    yield from _hidden_whereabouts_at_other_hubs(e)


def _words_in_feedback(e: Evidence) -> Iterator[str]:
    """Check that feedback mentions a stay only to a hospital's own team."""
    kinds = {partner["id"]: partner["kind"] for partner in e.partners}
    for row in e.feedback:
        if kinds.get(row["recipient"]) != "hospital-team" and (found := WORDS_OF_A_STAY.search(row.get("body", ""))):
            yield f"{row['recipient']} received feedback about {row['reference']} ({row['feedback_type']}) with the word {found[0]!r}"


def _events_of_hospital_teams(e: Evidence) -> Iterator[str]:
    """Check that events of a hospital's team lead to feedback to hospitals only."""
    on_the_ward = {one.id for one in e.history.commands if one.hub.startswith(HOSPITAL)}
    for entry in first_occurrences(e):
        if entry.data.get("command_id") in on_the_ward:
            for concern in entry.data.get("referral_contexts", ()):
                if concern["referred_by"]["kind"] != "hospital-team":
                    yield f"{concern['reference']} received feedback about the hospital team's {type_of(entry)}"


def _restricted_unit_at_other_hubs(e: Evidence) -> Iterator[str]:
    """Check that events to other hubs do not mention the restricted unit."""
    open_to_all = _persons_without_a_stay(e)
    for entry in e.records:
        other = entry.topic.endswith(".case") and entry.topic != f"hub.{RESTRICTED}.case"
        if other and entry.key not in open_to_all and (found := NAMES_OF_THE_UNIT.search(entry.value)):
            yield f"{entry.topic} mentions the restricted unit ({type_of(entry)}): {found[0].decode()}"


def _stays_at_other_hubs(e: Evidence) -> Iterator[str]:
    """Check that events to hubs other than a hospital's do not name its site."""
    for entry in e.records:
        other = entry.topic.endswith(".case") and not entry.topic.startswith(f"hub.{HOSPITAL}")
        if other and (found := HOSPITAL_SITES.search(entry.value)):
            yield f"{entry.topic} mentions a stay ({type_of(entry)}): {found[0].decode()}"


WHEREABOUTS = ("address", "temporary_address", "phone", "email", "other_contact_points")


def _hidden_whereabouts_at_other_hubs(e: Evidence) -> Iterator[str]:
    """Check that only a holder reads where a person with restricted data lives."""
    records = [entry for entry in e.records if entry.topic.endswith(".case")]
    events = {entry.headers.get("ce_id"): entry.data for entry in records}
    for entry in records:
        event = events.get(entry.data.get("of"), entry.data)
        if event.get("role") != "holder":
            for one in entry.data.get("referrals", ()):
                person = one["referral"]["person"]
                restricted = person.get("restricted_access") or event.get("case", {}).get("restricted_access")
                if restricted and (found := [name for name in WHEREABOUTS if person.get(name)]):
                    yield f"{entry.topic} has {found} of a person with restricted data ({type_of(entry)})"


def _persons_without_a_stay(e: Evidence) -> set[str]:
    """Return the person keys of referrals by the unit's trust without a stay; these are not restricted."""
    attended = {
        (person.number, at)
        for person in e.plan.persons
        for at, one in enumerate(person.referrals)
        if one.partner == "lpt" and not one.stays
    }
    theirs = {a.reference for a in e.history.answers if (a.message.person, a.message.referral) in attended}
    return {row["person_key"] for row in e.intake if row["reference"] in theirs}
