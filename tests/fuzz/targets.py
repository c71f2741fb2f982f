"""What is fuzzed: each way in that reads bytes, with seeds, a mutator that knows its syntax, and what must hold.

The first byte of an input chooses among a target's variants (trust, council, form); the rest is the message, but for `meaning`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.intake.batch import MessageDecision, ProtocolResponse
from services.intake.responses import bars, hl7v2, problems
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Rejection, Translated
from tests.builders.csv import COUNCILS, a_file
from tests.contract.translators.adapters import ADAPTERS, SAME_TRANSLATOR, Adapter
from tests.fuzz import files, frames, judge, meaning, meaning_values, mutate, workbooks

CHECKOUT = Path(__file__).resolve().parents[2]
PAYLOADS = CHECKOUT.parent / "shared" / "payloads"
GOLDEN = CHECKOUT / "tests" / "contract" / "translators" / "golden"
KEPT = Path(__file__).parent / "kept"

Composes = Callable[[InboundMessage, Translated | Rejection, MessageDecision], ProtocolResponse]


@dataclass(frozen=True)
class Target:
    """One thing that is fuzzed. `assert_holds` raises judge.Broken, or another error, if an input breaks it; `runs`: how many in CI."""

    name: str
    assert_holds: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    mutate: mutate.Mutator
    runs: int
    longest: int = 8_192

    def kept(self) -> list[Path]:
        """Inputs that broke it once."""
        return sorted((KEPT / self.name).glob("*"))


@dataclass(frozen=True)
class Variant:
    """A translator with its sender, and samples of what it reads."""

    adapter: Adapter
    samples: Callable[[], Sequence[bytes]]


def _of_translators(
    name: str, variants: Sequence[Variant], composes: Sequence[Composes], change: mutate.Mutator, runs: int
) -> Target:
    is_json = change is mutate.json_text

    def assert_holds(data: bytes) -> None:
        adapter = variants[data[0] % len(variants)].adapter if data else variants[0].adapter
        delivery = adapter.delivery(data[1:])
        made = adapter.translate(delivery)
        judge.assert_outcome(delivery, made, is_json=is_json)
        judge.assert_that(adapter.translate(delivery) == made, "the same bytes are translated in two ways")
        for compose in composes:
            judge.assert_answer(made, compose(delivery, made, judge.decided(made)))

    def seeds() -> Sequence[bytes]:
        return [bytes([number]) + body for number, one in enumerate(variants) for body in one.samples()]

    return Target(name, assert_holds, seeds, mutate.behind_first_byte(change), runs)


def _variant(adapter: Adapter, *more: str) -> Variant:
    def samples() -> Sequence[bytes]:
        golden = [path.read_bytes() for path in sorted((GOLDEN / adapter.name).glob("*.in"))]
        found = [path.read_bytes() for pattern in more for path in sorted(CHECKOUT.glob(pattern))]
        public = [path.read_bytes() for pattern in more for path in sorted(PAYLOADS.glob(pattern))]
        return [adapter.good(), *(body for body in (*golden, *found, *public) if len(body) <= 32_768)]

    return Variant(adapter, samples)


def _named(name: str, conformance: str = "full") -> Adapter:
    return next(one for one in (*ADAPTERS, *SAME_TRANSLATOR) if (one.name, one.conformance) == (name, conformance))


_FORMS = ("first-contact-plus", "hospital-discharge", "customer-service", "neighbourhood", "self", "coordinator")

HL7V2 = _of_translators(
    "hl7v2",
    [_variant(_named(f"hl7v2-{trust}"), "examples/*.hl7", "hl7v2/*.hl7") for trust in ("uhl", "lpt")],
    [hl7v2.over_mllp, hl7v2.over_http],
    mutate.er7,
    runs=2_500,
)
CSV = _of_translators(
    "csv",
    [_variant(_named(f"council-{name}")) for name in sorted(COUNCILS)],
    [problems.answer],
    mutate.csv_text,
    runs=2_500,
)
FORMS = _of_translators(
    "forms",
    [_variant(_named(f"form-{name}"), "examples/*form*.json") for name in _FORMS],
    [problems.answer],
    mutate.json_text,
    runs=2_500,
)
BARS = _of_translators(
    "bars",
    [_variant(_named("bars_fhir", kind), "examples/*.json", "bars/*.json") for kind in ("subset", "full")],
    [bars.answer],
    mutate.json_text,
    runs=600,
)


MEANING = Target(
    "meaning",
    lambda data: meaning.assert_any_visible(_named("bars_fhir"), GOLDEN, data),
    lambda: [bytes([number]) for number in range(16)],
    lambda _, draw: draw.randbytes(8),
    runs=150,
    longest=8,
)
"""The bytes choose a golden message and changes of what its elements mean."""


COUNCIL_ADAPTERS = [_named(f"council-{name}") for name in sorted(COUNCILS)]
FORM_ADAPTERS = [_named(f"form-{name}") for name in _FORMS]


def _of_values(name: str, adapters: Sequence[Adapter]) -> Target:
    return Target(
        name,
        lambda data: meaning_values.assert_any_visible(GOLDEN, adapters, data),
        lambda: [bytes([number]) for number in range(16)],
        lambda _, draw: draw.randbytes(8),
        runs=300,
        longest=8,
    )


def _council_files() -> Sequence[bytes]:
    """Whole files, each behind the byte of its council and one for the size of its pieces."""
    found = []
    for number, name in enumerate(sorted(COUNCILS)):
        bodies = [a_file(name), *(path.read_bytes() for path in sorted(CHECKOUT.glob(f"examples/council-{name}*.csv")))]
        found += [bytes([number, size]) + body for body in bodies for size in (0, 40)]
    return found


TARGETS: Mapping[str, Target] = {
    one.name: one
    for one in (
        HL7V2,
        CSV,
        Target("files", files.assert_holds, _council_files, mutate.behind_first_byte(mutate.csv_text), 800),
        Target("workbooks", workbooks.assert_holds, workbooks.seeds, workbooks.mutate, 800, longest=16_384),
        FORMS,
        BARS,
        MEANING,
        _of_values("meaning-rows", COUNCIL_ADAPTERS),
        _of_values("meaning-forms", FORM_ADAPTERS),
        Target("frames", frames.assert_holds, frames.seeds, mutate.frame_bytes, 3_000, longest=4_096),
    )
}
