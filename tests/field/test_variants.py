"""What must hold of the variants themselves; no server is started."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache

import pytest

from services.intake.translators.bars_fhir import validation
from tests.field import expectation
from tests.field.expectation import Answer, Seen
from tests.field.variants import FIRST_REFERENCE, KINDS, Sent, Variant, format_of, play, variants

NOW = datetime(2026, 11, 29, 16, 0, tzinfo=UTC)
REFERENCE = "LB-0000-1111-2222"
BELOW_FHIR = {"name-twice"}
"""Kinds whose messages are not FHIR by intention."""

each_kind = pytest.mark.parametrize("kind", sorted(KINDS))


@cache
def some(kind: str, seed: int = 1) -> list[Variant]:
    return list(variants(kind, 24, seed, NOW))


@each_kind
def test_a_seed_makes_the_same_variants_each_time_and_another_makes_others(kind: str) -> None:
    assert some(kind) == list(variants(kind, 24, 1, NOW))
    assert some(kind) != some(kind, seed=2)


@each_kind
def test_variants_of_a_kind_differ_and_are_about_different_people(kind: str) -> None:
    made = some(kind)
    assert len({one.what for one in made}) >= min(4, len(made))
    assert not {id_ for one in made for other in made if other is not one for id_ in one.ids & other.ids}


@each_kind
def test_every_expectation_is_one_that_can_fail(kind: str) -> None:
    for one in some(kind):
        for right in one.right:
            assert len(right["answers"]) == len(one.sent)
            assert set(right) <= set(expectation.KINDS)
            assert set(right) - {"answers", "answer", "mirrored", "references"}
        answers = [Answer(500, "") for _ in one.sent]
        assert play.problem(one, Seen(answers), play.IN_PROCESS)


@pytest.mark.parametrize("kind", sorted(one for one in KINDS if one not in BELOW_FHIR and format_of(one) == "fhir"))
def test_a_message_is_fhir_so_that_only_its_meaning_can_refuse_it(kind: str) -> None:
    invalid = [str(one) for one in some(kind) for sent in one.sent if not is_fhir(sent)]
    assert all("1931-02-30" in one for one in invalid), invalid


def is_fhir(sent: Sent) -> bool:
    body = sent.body.removeprefix(b"\xef\xbb\xbf").replace(FIRST_REFERENCE.encode(), REFERENCE.encode())
    return not validation.find_issues(json.loads(body))


def test_a_variant_that_is_refused_must_not_be_published_anywhere() -> None:
    one = refused_variant()
    assert play.problem(one, Seen([Answer(400, "")])) is None
    assert play.problem(one, Seen([Answer(200, REFERENCE)]))
    published = ("referral.received", {"reference": REFERENCE, "version": 1, "referral": {}})
    assert play.problem(one, Seen([Answer(400, "")], [published]))


def refused_variant() -> Variant:
    return replace(some("modifier-extension")[0], sent=[Sent(b"{}")])


def test_records_are_found_by_the_ids_of_the_variant_and_by_the_reference_in_its_answer() -> None:
    one = refused_variant()
    texts = [f"about {sorted(one.ids)[0]}", f"about {REFERENCE}", "about somebody else"]
    records = [("referral.received", {}, text) for text in texts]
    assert len(play.about(one, [Answer(200, REFERENCE)], records)) == 2
    assert len(play.about(one, [Answer(400, "")], records)) == 1


def test_each_option_of_a_kind_comes_up_within_as_many_variants() -> None:
    from tests.field.variants.draw import Draw

    def options() -> Iterator[str]:
        for number in range(7):
            yield Draw("a seed", number, NOW, set()).each(list("abcdefg"))

    assert sorted(options()) == list("abcdefg")


def test_our_reference_stands_in_a_later_message_once_it_is_known() -> None:
    assert Sent(f'{{"id": "{FIRST_REFERENCE}"}}'.encode()).to(REFERENCE) == f'{{"id": "{REFERENCE}"}}'.encode()
