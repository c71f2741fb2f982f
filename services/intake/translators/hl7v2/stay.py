"""The stay in hospital, from PV1 and PV2."""

from typing import Any

from services.intake.translators.contract import unnamed
from services.intake.translators.hl7v2 import places
from services.intake.translators.hl7v2.dates import day
from services.intake.translators.hl7v2.mapping import Mapping, fold
from services.intake.translators.hl7v2.segments import Message

OF_A_STAY = ("hospital", "expected_discharge_on", "ready_for_transfer_on", "discharged_on")
"""What is said of a referral only while, or after, its person stays in hospital."""


def is_stay(message: Message, mapping: Mapping) -> bool:
    """False where PV1-2 says that the person only attends: then no hospital team holds the case."""
    said = message.text("PV1", 2)
    return said is None or mapping.is_one(mapping.stay_classes, said)


def stay(message: Message, mapping: Mapping) -> dict[str, Any]:
    """Where the person lies and since when, when they should go, when they went. The site alone makes no stay."""
    where = message.first("PV1", 3)
    beds = [part for n in (2, 3) if (part := where.text(n))] if where else []
    given = any(visit.fields for visit in message.all("PV1"))
    lies = {
        "site": _site(message, mapping) if given else None,
        "ward": where.text() if where else None,
        "bed": ", ".join(beds),
        "admitted_on": day(message.first("PV1", 44)),
    }
    leaves = {"expected_discharge_on": day(message.first("PV2", 9)), "discharged_on": day(message.first("PV1", 45))}
    return unnamed(leaves) | ({"hospital": unnamed(lies)} if given else {})


def _site(message: Message, mapping: Mapping) -> str | None:
    said = places.text(message, mapping.site.read_from) if mapping.site else None
    return mapping.site.meanings.get(fold(said), said) if mapping.site and said else None
