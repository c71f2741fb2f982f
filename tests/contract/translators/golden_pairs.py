"""Golden pairs: golden/<translator>/<case>.in and <case>.out.json are next to each other. To add a case, add two files.

`python -m tests.contract.translators.golden_pairs <case>.in` prints the result of the translator: read it, and keep it if
it is right.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from services.intake.translators.translator import Rejection, Translated
from tests.contract.translators.adapters import ADAPTERS, SAME_TRANSLATOR

GOLDEN = Path(__file__).parent / "golden"
FULL = {adapter.name: adapter for adapter in [*ADAPTERS, *SAME_TRANSLATOR] if adapter.conformance == "full"}
CASES = sorted(GOLDEN.glob("*/*.in"))


def outcome_of(case: Path) -> dict[str, Any]:
    """Return the result of the translator for a case, as JSON."""
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
        "names": [f"{name.kind} {name.authority} {name.value}" for name in translated.names],
        "sent_at": translated.sent_at and translated.sent_at.isoformat(),
        "cancel_reason": translated.cancel_reason if referral is None else None,
        "discharged_on": translated.discharged_on and translated.discharged_on.isoformat(),
        "death_reported": translated.death_reported and translated.death_reported.model_dump(mode="json"),
        "referral": referral and json.loads(referral.model_dump_json(exclude_defaults=True)),
        "passed_over": list(translated.passed_over),
        "warnings": [dataclasses.asdict(one) for one in translated.warnings],
        "documents": [[kept.reference, kept.sha256, kept.media_type] for kept in translated.documents],
    }
    return {name: value for name, value in plain.items() if value}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps(outcome_of(Path(name)), indent=2))
