"""The compiled structs accept nothing that fhir.resources refuses; a looser compiler is found out."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any

import pytest
from msgspec import Meta

from services.intake.translators.bars_fhir import compiled, decode
from services.intake.translators.bars_fhir.models import READ
from services.intake.translators.translator import Rejection
from tests.fuzz import conformance
from tests.fuzz.conformance import accepted_by_fhir_resources, accepted_by_structs, accepted_by_structs_only

SEED, MUTANTS = 20_261_105, 2_000


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The compiler without the structs that it has made, to be changed."""
    monkeypatch.setattr(compiled, "_made", {})
    compiled.resource.cache_clear()
    yield monkeypatch
    compiled.resource.cache_clear()


@pytest.mark.parametrize("path", conformance.documents())
def test_a_message_that_conforms_and_whose_codes_are_known_is_accepted_by_the_structs_at_once(path: str) -> None:
    message = conformance.documents()[path]
    conforms = accepted_by_fhir_resources(message)
    is_read = not isinstance(decode.read(json.dumps(message).encode(), whole=False), Rejection)
    assert accepted_by_structs(message) is (conforms and is_read)


def test_every_element_of_each_of_the_141_resource_types_is_accepted_if_our_models_do_not_require_more() -> None:
    assert len(conformance.resource_types()) == 141
    verdicts: Counter[tuple[bool, bool]] = Counter()
    assert [*accepted_by_structs_only(conformance.examples(), verdicts)] == []
    assert verdicts[False, False] == 0
    assert verdicts[True, True] > 11_000
    refused = {example["resourceType"] for example in conformance.examples() if not accepted_by_structs(example)}
    assert refused <= {"Bundle", *READ}


def test_an_odd_value_of_a_primitive_type_is_not_accepted_by_the_structs_alone() -> None:
    verdicts: Counter[tuple[bool, bool]] = Counter()
    assert [*accepted_by_structs_only(conformance.odd_primitives(), verdicts)] == []
    assert min(verdicts[True, True], verdicts[False, False]) > 100


def test_no_mutant_is_accepted_by_the_structs_alone() -> None:
    verdicts: Counter[tuple[bool, bool]] = Counter()
    assert [*accepted_by_structs_only(conformance.mutants(SEED, MUTANTS), verdicts)] == []
    assert min(verdicts[True, True], verdicts[False, False]) > 200


def test_the_first_referral_finds_its_structs_made_and_other_types_are_not(compiler: pytest.MonkeyPatch) -> None:
    compiled.prepare()
    prepared = len(compiled._made)
    message = json.loads((conformance.CHECKOUT / "bench" / "referral.json").read_bytes())
    assert accepted_by_structs(message)
    assert len(compiled._made) == prepared < 120  # of 682 models
    assert accepted_by_structs({"resourceType": "Observation", "status": "final", "code": {}})
    assert len(compiled._made) > prepared


# ---- a looser compiler ----------------------------------------------------------------------------------------------


def _without_choices(compiler: pytest.MonkeyPatch) -> None:
    compiler.setattr(compiled, "_rules", lambda model, attributes: None)


def _without_required(compiler: pytest.MonkeyPatch) -> None:
    compiler.setattr(compiled, "_required", lambda model: set())


def _with_line_ends(compiler: pytest.MonkeyPatch) -> None:
    for kind in ("code", "id", "date", "dateTime"):
        pattern = compiled._PRIMITIVES[kind].__metadata__[0].pattern.replace(r"\Z", "$")
        compiler.setitem(compiled._PRIMITIVES, kind, Annotated[str, Meta(pattern=pattern)])


def _with_impossible_days(compiler: pytest.MonkeyPatch) -> None:
    compiler.setitem(compiled._PRIMITIVES, "date", Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d\Z")])


def _with_empty_extensions(compiler: pytest.MonkeyPatch) -> None:
    compiler.setattr(compiled, "_extends_something", lambda value: None)


def _with_any_white_space(compiler: pytest.MonkeyPatch) -> None:
    compiler.setattr(compiled, "is_plain", lambda body: True)


def _with_unlimited_integers(compiler: pytest.MonkeyPatch) -> None:
    compiler.setitem(compiled._PRIMITIVES, "positiveInt", int)


LOOSER: list[Any] = [
    _without_choices,
    _without_required,
    _with_line_ends,
    _with_impossible_days,
    _with_empty_extensions,
    _with_any_white_space,
    _with_unlimited_integers,
]


@pytest.mark.parametrize("loosen", LOOSER)
def test_a_looser_compiler_is_found_out(loosen: Any, compiler: pytest.MonkeyPatch) -> None:
    loosen(compiler)
    tried = chain(conformance.odd_primitives(), conformance.mutants(SEED, MUTANTS))
    assert next(accepted_by_structs_only(tried), None) is not None


@pytest.mark.parametrize("kind", ["code", "id", "date", "dateTime", "instant", "url"])
def test_a_text_that_the_structs_take_is_one_that_our_models_take(kind: str) -> None:
    theirs, ours = (types[kind].__metadata__[0].pattern for types in (compiled._PRIMITIVES, compiled._OURS))
    taken = [text for text in map(str, (*conformance._ODD, conformance._SAMPLES[kind])) if re.search(theirs, text)]
    assert taken
    assert all(re.search(ours, text) for text in taken)
