"""I10: a hub that reads nothing but its topic knows every open referral of its cases that it may see, as it stands."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from examples.connect.hub import Case, receive
from tests.chaos.harness.evidence import Evidence
from tests.chaos.harness.topic_records import first_occurrences_of, type_of

Row = Mapping[str, Any]
OPEN = ("requested", "accepted", "in-progress", "on-hold")


def cases_are_known_from_topics(e: Evidence) -> Iterator[str]:
    """Check that what the example client rebuilds from each hub's topic is what the hub may see of its cases."""
    return differences(_rebuilt(e), e.cases, e.referrals)


def differences(
    rebuilt: Mapping[tuple[str, str], Case], cases: Iterable[Row], referrals: Sequence[Row]
) -> Iterator[str]:
    """Yield where the cases that clients rebuilt, by hub and id, are not what rows of the router's tables let each hub see."""
    for row in cases:
        case = json.loads(row["state"])
        records = [json.loads(one["state"]) for one in referrals if one["case_id"] == row["case_id"]]
        for hub, cursor in case.get("cursors", {}).items():
            known = rebuilt.get((hub, row["case_id"]))
            if known is None or not known.is_whole or known.version != cursor["version"]:
                yield f"{hub} lacks events of case {row['case_id']} before version {cursor['version']}"
                continue
            held = {reference: _held(one) for reference, one in known.referrals.items()}
            may_see = {one["reference"]: _stored(one) for one in records if _may_see(case, one, hub, cursor["role"])}
            for reference in sorted(held.keys() | may_see.keys()):
                if held.get(reference) != may_see.get(reference):
                    yield f"{hub} knows {reference} as {held.get(reference)}, and it is {may_see.get(reference)}"


def _rebuilt(e: Evidence) -> dict[tuple[str, str], Case]:
    by_hub: dict[str, dict[str, Case]] = {}
    for entry in first_occurrences_of(
        one for one in e.records if one.topic.endswith(".case") and "ce_id" in one.headers
    ):
        if type_of(entry) != "command-refused":
            hub = entry.topic.removeprefix("hub.").removesuffix(".case")
            receive(by_hub.setdefault(hub, {}), type_of(entry), dict(entry.data))
    return {(hub, case_id): case for hub, cases in by_hub.items() for case_id, case in cases.items()}


def _held(one: Row) -> tuple[Any, ...]:
    return one["status"], sorted(one["open_needs"]), _services(one["referral"])


def _stored(record: Row) -> tuple[Any, ...]:
    return record.get("status", "requested"), sorted(record["open_needs"]), _services(record["referral"])


def _services(referral: Row) -> list[str]:
    return [need["service"] for need in referral.get("needs", ())]


def _may_see(case: Row, record: Row, hub: str, role: str) -> bool:
    """Return True if a hub may see an open referral; during a stay not all of another team's."""
    if role == "former" or record.get("status", "requested") not in OPEN:
        return False
    if record.get("hospital_hub") in (None, hub) or case.get("stay") is None:
        return True
    part = case["stay"] if record.get("in_stay") else case["home"]
    unread = len(record["referral"].get("to_be_read", ())) > len(record.get("parts_read", ()))
    to_be_read = unread and part.get("hub") == hub
    return (role == "holder" or to_be_read) and not record.get("restricted")
