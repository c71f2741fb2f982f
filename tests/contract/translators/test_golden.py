"""Golden pairs: golden/<translator>/<case>.in and <case>.out.json lie side by side. Adding a case is adding two files.

`python -m tests.contract.translators.test_golden <case>.in` prints what the translator makes of a case: read it, and keep it if
it is right.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from services.intake.translators.translator import Rejection, Translated
from tests.contract.translators.adapters import ADAPTERS, SAME_TRANSLATOR, Adapter

GOLDEN = Path(__file__).parent / "golden"
FULL = {adapter.name: adapter for adapter in [*ADAPTERS, *SAME_TRANSLATOR] if adapter.conformance == "full"}
CASES = sorted(GOLDEN.glob("*/*.in"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_the_message_is_translated_as_the_expected_file_states(case: Path) -> None:
    assert said(case) == json.loads(case.with_suffix(".out.json").read_text())


@pytest.mark.parametrize("adapter", FULL.values(), ids=lambda adapter: adapter.name)
def test_every_translator_has_golden_pairs_of_each_outcome(adapter: Adapter) -> None:
    outcomes = {next(iter(said(case))) for case in CASES if case.parent.name == adapter.name}
    assert outcomes == {"translated", "refused"}


def said(case: Path) -> dict[str, Any]:
    """What the translator makes of a case, as JSON."""
    adapter = FULL[case.parent.name]
    outcome = adapter.translate(adapter.delivery(case.read_bytes()))
    match outcome:
        case Rejection():
            return {"refused": [dataclasses.asdict(fault) for fault in outcome.issues]}
        case Translated():
            return {"translated": _plain(outcome)}


def _plain(translated: Translated) -> dict[str, Any]:
    referral = translated.referral
    plain = {
        "intent": translated.intent,
        "message_ids": list(translated.message_ids),
        "referral_id": translated.referral_id,
        "sent_at": translated.sent_at and translated.sent_at.isoformat(),
        "cancel_reason": translated.cancel_reason if referral is None else None,
        "discharged_on": translated.discharged_on and translated.discharged_on.isoformat(),
        "referral": referral and json.loads(referral.model_dump_json(exclude_defaults=True)),
        "documents": [[kept.reference, kept.sha256, kept.media_type] for kept in translated.documents],
    }
    return {name: value for name, value in plain.items() if value}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps(said(Path(name)), indent=2))
