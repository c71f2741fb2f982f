"""Thousands of HL7 v2 messages that no list has, read and merged by the translator alone."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Translated
from tests.contract.translators.adapters import HL7V2, a_partner
from tests.field.expectation import Answer, Seen
from tests.field.variants import KINDS, Variant, format_of, play, variants

SEED, COUNT = 20_261_130, 100
NOW = datetime.now(UTC)
REFERENCE = "LB-0000-1111-2222"
DECIDED_BY_INTAKE = {
    *("hl7v2-adt", "hl7v2-adt-of-others", "hl7v2-another-person", "hl7v2-cancel", "hl7v2-numberings", "hl7v2-refused"),
    *("hl7v2-same-control-id", "hl7v2-triggered-again"),
}
"""Kinds whose right end depends on what is stored: tests/intake/test_variants.py plays them."""
READ = sorted(name for name in KINDS if format_of(name) == "hl7v2" and name not in DECIDED_BY_INTAKE)


@pytest.mark.parametrize("kind", READ)
def test_every_variant_of_a_kind_is_read_and_merged_as_it_should(kind: str) -> None:
    played = list(variants(kind, COUNT, SEED, NOW))
    assert len(played) == COUNT
    wrong = [found for one in played if (found := play.problem(one, seen(one), ("event", "nowhere")))]
    assert not wrong, "\n".join(wrong)


def seen(variant: Variant) -> Seen:
    """Return what the referral says after all messages, each merged with those before it."""
    events = [
        (
            "referral.updated",
            {"reference": REFERENCE, "version": number, "referral": one.referral.model_dump(mode="json")},
        )
        for number, one in enumerate(merged(variant))
        if one.referral
    ]
    return Seen([Answer("AA", REFERENCE)], events)


def merged(variant: Variant) -> Iterator[Translated]:
    held: bytes | None = None
    for sent in variant.sent:
        one = HL7V2(InboundMessage(a_partner(sent.sender), sent.body, NOW, b"a key of these tests"))
        whole = one.complete(held) if isinstance(one, Translated) and one.complete and held else one
        assert isinstance(whole, Translated), (variant, whole)
        held = whole.fields
        yield whole


def test_most_kinds_are_read_without_anything_that_is_stored() -> None:
    assert len(READ) > len(DECIDED_BY_INTAKE)
    assert set(KINDS) >= DECIDED_BY_INTAKE
