"""A change of what any cell or value of a form says is visible; and a translator that drops one is found."""

import re
from dataclasses import replace

import pytest

from services.intake.translators.inbound_message import InboundMessage, Translator
from services.intake.translators.translator import Rejection, Translated
from tests.contract.translators.adapters import Adapter
from tests.fuzz import meaning_values
from tests.fuzz.meaning_values import HARMLESS, is_seen
from tests.fuzz.targets import COUNCIL_ADAPTERS, FORM_ADAPTERS, GOLDEN, TARGETS

BY_FORMAT = {"rows": COUNCIL_ADAPTERS, "forms": FORM_ADAPTERS}


@pytest.mark.parametrize("kind", BY_FORMAT)
def test_every_kind_of_change_at_every_cell_or_value_is_visible_or_known_to_be_harmless(kind: str) -> None:
    played = list(meaning_values.one_of_each(GOLDEN, BY_FORMAT[kind]))
    assert len(played) > 1_000
    hidden = [str(change) for change, base in played if not is_seen(change, base)]
    unused = [
        one
        for one in HARMLESS
        if ("form" if kind == "forms" else "council") in one and not any(re.search(one, name) for name in hidden)
    ]
    assert unused == []
    assert [name for name in hidden if not any(re.search(one, name) for one in HARMLESS)] == []


def dropping(adapter: Adapter, word: str) -> Translator:
    """A translator that does not see a word, nor warns of it."""

    def translate(delivery: InboundMessage) -> Translated | Rejection:
        return adapter.translate(replace(delivery, body=delivery.body.replace(word.encode(), b"")))

    return translate


@pytest.mark.parametrize("adapter", [COUNCIL_ADAPTERS[0], FORM_ADAPTERS[0]], ids=str)
def test_a_translator_that_drops_a_word_is_found(adapter: Adapter) -> None:
    changes = [one for one in meaning_values.one_of_each(GOLDEN, [adapter]) if one[0].kind == "a word behind"]
    assert changes
    assert not all(is_seen(change, base, dropping(adapter, " verdict")) for change, base in changes)


def test_an_input_of_a_target_chooses_a_change() -> None:
    for name in ("meaning-rows", "meaning-forms"):
        for number in range(10):
            TARGETS[name].assert_holds(bytes([number]))
