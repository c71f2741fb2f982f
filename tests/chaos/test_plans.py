"""What plans hold, without any service: every format, kind of message and pair of sources, each as intake's own rules judge it."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from services.intake.deduplication import AcceptedMessage, StoredReferral, Verdict, apply_verdict, classify
from services.intake.translators.council_csv import translator as council_translator
from services.intake.translators.form import translator as form_translator
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Rejection, Translated
from tests.builders import csv
from tests.chaos.messages import Identity, message
from tests.chaos.run import CI
from tests.chaos.seed import Person, Plan, Referral, Say, plan
from tests.chaos.ways import PAIRS, WAYS, council
from tests.contract.translators.adapters import BARS, FORMS, HL7V2, a_partner
from tests.intake.stored import a_stored_referral

IDENTITY = Identity("a run", 3)
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
TAKEN = (Verdict.RECEIVED, Verdict.UPDATED, Verdict.CANCELLED, Verdict.REPEAT, Verdict.STALE)


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return [plan(seed) for seed in range(1, 101)]


def said(plans: list[Plan]) -> Iterator[tuple[Person, Referral, Say]]:
    for one in plans:
        for person in one.people:
            for given in person.inputs:
                if isinstance(given, Say):
                    yield person, person.referrals[given.referral], given


def way_of(one: Referral) -> tuple[Any, ...]:
    return one.partner, one.format, one.practice, one.form, one.asker, one.over_http


def test_the_first_hundred_plans_send_every_kind_of_message_in_every_format_that_has_it(plans: list[Plan]) -> None:
    kinds = {(one.format, given.kind) for _, one, given in said(plans)}
    everything = {"new", "update", "late", "cancel", "repeat", "conflict", "bad", "unknown-cancel"}
    assert kinds == {(each, kind) for each in ("bars", "form", "hl7", "csv") for kind in everything} - {
        ("form", "conflict")
    }


def test_the_first_hundred_plans_have_every_two_sources_for_one_person_in_both_orders(plans: list[Plan]) -> None:
    sources = {(w.partner, w.format, w.practice, w.form, w.asker, w.over_http): w.source for w in WAYS}
    people = [person for one in plans for person in one.people if len(person.referrals) == 2]
    pairs = Counter((sources[way_of(p.referrals[0])], sources[way_of(p.referrals[1])]) for p in people)
    assert pairs.keys() == set(PAIRS)
    assert min(pairs.values()) > 2


def test_each_of_the_first_dozen_seeds_adds_to_every_way_in(plans: list[Plan]) -> None:
    ways = Counter(way_of(one) for each in plans[:12] for person in each.people for one in person.referrals)
    partners = Counter((one[0], one[3], one[5]) for one in ways.elements())
    assert ways.keys() == {(w.partner, w.format, w.practice, w.form, w.asker, w.over_http) for w in WAYS}
    assert min(partners.values()) > 2
    beside = Counter(one.beside for each in plans[:12] for person in each.people for one in person.referrals)
    assert beside.keys() == {0, 1, 2}


def test_the_seeds_of_ci_have_every_way_in() -> None:
    chosen = [plan(seed) for seeds in CI.values() for seed in seeds]
    ways = {(one.partner, one.format, one.form, one.over_http) for _, one, _ in said(chosen)}
    assert ways == {(way.partner, way.format, way.form, way.over_http) for way in WAYS}


def test_people_have_a_number_or_none_or_one_that_fails_its_check_by_hl7_only(plans: list[Plan]) -> None:
    people = [person for one in plans for person in one.people]
    assert any(not person.has_nhs_number for person in people)
    failing = [person for person in people if person.fails_check]
    assert failing
    assert all(person.referrals[0].format == "hl7" and len(person.referrals) == 1 for person in failing)


def test_no_two_referrals_of_a_person_are_of_one_day(plans: list[Plan]) -> None:
    """A tie would be decided by the reference, which is another one with faults than without."""
    for person in (person for one in plans for person in one.people):
        assert len({one.day for one in person.referrals}) == len(person.referrals)


# ---- as intake would judge them ---------------------------------------------------------------------------------------

COUNCIL = {name: council_translator(mapping) for name, mapping in csv.COUNCILS.items()}
FORM = {name: form_translator(form) for name, form in FORMS.items()}


def translated(one: Referral, body: bytes) -> list[Translated | Rejection]:
    """Of a file, each row."""
    delivery = InboundMessage(a_partner(one.partner), body, NOW, b"a key of these tests")
    match one.format:
        case "bars":
            return [BARS(delivery)]
        case "hl7":
            return [HL7V2(delivery)]
        case "form":
            return [FORM[one.form](delivery)]
    name = council(one.partner)
    above = csv.header_of(csv.COUNCILS[name])
    rows = body.removeprefix(above)
    assert rows != body
    return [
        COUNCIL[name](InboundMessage(a_partner(one.partner), above + row, NOW, b"a key")) for row in split(rows, name)
    ]


def split(rows: bytes, name: str) -> list[bytes]:
    """At line ends outside quotes; every row has one but perhaps the last."""
    found, held = [], b""
    for line in rows.splitlines(keepends=True):
        held += line
        if held.count(b'"') % 2 == 0 or csv.COUNCILS[name].file.quoting == "none":
            found.append(held)
            held = b""
    return found


def verdicts(person: Person) -> Iterator[tuple[Say, Verdict | None]]:
    """What becomes of each message, in the plan's order. None: refused by its format."""
    held: dict[str, StoredReferral] = {}
    seen: dict[str, AcceptedMessage] = {}
    for place, given in enumerate(person.inputs):
        if not isinstance(given, Say):
            continue
        sent = message(IDENTITY, person, given, place)
        outcomes = translated(person.referrals[given.referral], sent.body)
        beside = {row for _, row in sent.beside}
        own = [one for one in outcomes if isinstance(one, Rejection) or one.referral_id not in beside]
        assert len(outcomes) == len(own) + len(sent.beside)
        if len(own) == 2 or isinstance(own[0], Rejection):
            yield given, None
            continue
        [one] = own
        stored = held.setdefault(one.referral_id, a_stored_referral())
        verdict = classify(one, stored, [seen[name] for name in one.message_ids if name in seen])
        apply_verdict(one, stored, verdict)
        if verdict.makes_event or verdict is Verdict.STALE:
            seen |= dict.fromkeys(one.message_ids, AcceptedMessage(one.content_hash, uuid4(), stored.reference))
        yield given, verdict


WANTED = {
    "new": {Verdict.RECEIVED},
    "update": {Verdict.UPDATED},
    "late": {Verdict.STALE, Verdict.REPEAT},
    "cancel": {Verdict.CANCELLED, Verdict.REPEAT},
    "repeat": {Verdict.REPEAT, Verdict.STALE},
    "conflict": {Verdict.CONFLICT, None},
    "bad": {None},
    "unknown-cancel": {Verdict.UNKNOWN, None},
}


@pytest.mark.parametrize("seed", range(1, 26))
def test_every_message_of_a_plan_becomes_what_its_kind_says(seed: int) -> None:
    for person in plan(seed).people:
        for given, verdict in verdicts(person):
            assert verdict in WANTED[given.kind], (person.referrals[given.referral], given, verdict)
