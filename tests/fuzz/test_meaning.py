"""A change of what any element of a BaRS message means is visible; and a translator that hides one is found."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from services.intake.translators.bars_fhir import validation
from services.intake.translators.bars_fhir.models import READ
from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import Rejection, Translated
from tests.fuzz import meaning, r4_examples
from tests.fuzz.judge import Broken
from tests.fuzz.meaning import Mutant
from tests.fuzz.targets import GOLDEN, TARGETS, _named

ADAPTER = _named("bars_fhir")
GOODS = meaning.goods(ADAPTER, GOLDEN)


@pytest.mark.slow
def test_every_kind_of_change_at_every_place_of_the_golden_messages_is_visible() -> None:
    began, played, hidden = time.monotonic(), 0, []
    for mutant, base in meaning.one_of_each(GOODS):
        played += 1
        if not is_visible(ADAPTER.translate, mutant, base):
            hidden.append(str(mutant))
    assert played > 1_000
    assert hidden == []
    assert time.monotonic() - began < 60


def is_visible(translate: Translator, mutant: Mutant, base: Translated | Rejection) -> bool:
    try:
        meaning.assert_visible(translate, ADAPTER.delivery, mutant, base)
    except Broken:
        return False
    return True


# ---- planted faults -------------------------------------------------------------------------------------------------


def without(name: str) -> Translator:
    """A translator that does not see the elements of this name, nor lists them."""

    def translate(delivery: InboundMessage) -> Translated | Rejection:
        return ADAPTER.translate(replace(delivery, body=json.dumps(stripped(json.loads(delivery.body), name)).encode()))

    return translate


def stripped(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: stripped(one, name) for key, one in value.items() if key != name}
    return [stripped(one, name) for one in value] if isinstance(value, list) else value


FAULTS: dict[str, Callable[[Mutant], bool]] = {
    "doNotPerform": lambda mutant: mutant.plain.endswith(".doNotPerform"),
    "period": lambda mutant: mutant.kind == "an ended period",
    "deceasedBoolean": lambda mutant: mutant.plain.endswith(".deceasedBoolean"),
    "modifierExtension": lambda mutant: mutant.plain.endswith(".modifierExtension"),
    "note": lambda mutant: ".note" in mutant.plain,
}
"""An element that a faulty translator ignores, and the changes that it hides."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_translator_that_ignores_an_element_is_found(name: str) -> None:
    translate = without(name)
    bases = {id(base): translate(ADAPTER.delivery(text.encode())) for text, base in GOODS}
    changes = [(mutant, bases[id(base)]) for mutant, base in meaning.one_of_each(GOODS) if FAULTS[name](mutant)]
    accepted = [(mutant, base) for mutant, base in changes if isinstance(base, Translated)]
    assert accepted
    assert not all(is_visible(translate, mutant, base) for mutant, base in accepted)


def test_an_input_of_the_target_chooses_changes_of_changed_messages() -> None:
    for number in range(20):
        TARGETS["meaning"].assert_holds(bytes([number]))


# ---- the changes themselves -----------------------------------------------------------------------------------------


def test_every_kind_of_change_is_made() -> None:
    kinds = {mutant.kind for mutant, _ in meaning.one_of_each(GOODS)}
    assert kinds == {"leaving out", "another value", "an ended period", "another person", "adding", "one more"}


def test_a_change_is_of_one_place_and_leaves_the_original_as_it_was() -> None:
    text, _ = GOODS[0]
    for mutant in list(meaning.mutants(text))[:200]:
        assert mutant.message != json.loads(text)
        assert mutant.original == text


def test_a_place_below_one_that_was_passed_over_counts_as_listed() -> None:
    made = replace(GOODS[0][1], passed_over=("Bundle.entry[1].resource.note", "Bundle.entry[2]"))
    assert meaning.is_listed("Bundle.entry[1].resource.note[0].text", made)
    assert meaning.is_listed("Bundle.entry[2].resource.id", made)
    assert not meaning.is_listed("Bundle.entry[1].resource.noted", made)
    assert not meaning.is_listed("Bundle.entry[1].resource", made)


@pytest.mark.parametrize("kind", READ)
def test_an_example_of_every_element_is_fhir(kind: str) -> None:
    model = r4_examples.model_of(kind)
    found = r4_examples.elements(model)
    for element in found.values():
        needed = r4_examples.smallest(model).items()
        others = {name: value for name, value in needed if not element.choice or found[name].choice != element.choice}
        resource = {"resourceType": kind, **others, element.name: r4_examples.example(element)}
        bundle = {"resourceType": "Bundle", "type": "message", "entry": [{"resource": resource}]}
        assert validation.find_issues(bundle) == ()
