"""Thousands of councils' rows and forms that no list has, read by the translators alone."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import Issue, Rejection, Translated
from services.reference import fillers
from tests.contract.translators.adapters import ADAPTERS, DIRECTORY, SAME_TRANSLATOR, a_partner
from tests.field.expectation import Answer, Seen
from tests.field.variants import KINDS, Sent, Variant, format_of, play, variants

SEED, COUNT = 20_261_201, 100
NOW = datetime.now(UTC)
REFERENCE = "LB-0000-1111-2222"
DECIDED_BY_INTAKE = {
    *(
        "csv-another-person",
        "csv-around-the-rows",
        "csv-cells-that-shift",
        "csv-dry-run",
        "csv-encodings",
        "csv-line-ends",
    ),
    *(
        "csv-media-types",
        "csv-references",
        "csv-workbooks",
        "csv-workbooks-refused",
        "form-another-person",
        "form-files",
    ),
}
"""Kinds whose right end depends on the whole file or on what is stored: tests/intake/test_variants.py plays them."""
READ = sorted(name for name in KINDS if format_of(name) in ("csv", "form") and name not in DECIDED_BY_INTAKE)
TRANSLATORS = {one.sender: one.translate for one in (*SAME_TRANSLATOR, *ADAPTERS)}
FILLERS = fillers.load(DIRECTORY)


@pytest.mark.parametrize("kind", READ)
def test_every_variant_of_a_kind_is_read_warned_of_or_refused_as_it_should(kind: str) -> None:
    played = list(variants(kind, COUNT, SEED, NOW))
    assert len(played) == COUNT
    wrong = [
        found for one in played if (found := play.problem(one, seen(one), ("event", "faults", "warnings", "nowhere")))
    ]
    assert not wrong, "\n".join(wrong)


def seen(variant: Variant) -> Seen:
    """What the translator made of the variant's one message, as its sender is answered."""
    (sent,) = variant.sent
    made = _translator(sent)(
        InboundMessage(a_partner(sent.sender), sent.body, NOW, b"a key of these tests", fillers=FILLERS)
    )
    if isinstance(made, Rejection):
        return Seen([Answer(400, json.dumps({"faults": _listed(made.issues)}))])
    assert isinstance(made, Translated)
    assert made.referral
    event = {"reference": REFERENCE, "version": 1, "referral": made.referral.model_dump(mode="json")}
    text = json.dumps({"reference": REFERENCE, "warnings": _listed(made.warnings)})
    return Seen([Answer(202, text)], [("referral.received", event)])


def _translator(sent: Sent) -> Translator:
    return TRANSLATORS[sent.sender]


def _listed(issues: Sequence[Issue]) -> list[dict[str, str]]:
    return [{"field": one.place, "kind": one.kind} for one in issues]


def test_most_kinds_are_read_without_anything_that_is_stored() -> None:
    assert len(READ) > len(DECIDED_BY_INTAKE)
    assert set(KINDS) >= DECIDED_BY_INTAKE
