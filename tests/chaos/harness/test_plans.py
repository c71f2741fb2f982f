"""Test the messages of plans, without services: all formats, kinds and pairs of sources, as intake classifies them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from services.intake.deduplication import (
    AcceptedMessage,
    FoundReferral,
    StoredReferral,
    Verdict,
    apply_verdict,
    classify,
)
from services.intake.identifiers import subject_hashes
from services.intake.translators.council_csv import translator as council_translator
from services.intake.translators.form import translator as form_translator
from services.intake.translators.inbound_message import InboundMessage
from services.intake.translators.translator import Rejection, Translated
from tests.builders import csv
from tests.chaos.harness import said
from tests.chaos.harness.command import CI
from tests.chaos.harness.history import Message
from tests.chaos.harness.messages import ADT, Identity, message
from tests.chaos.harness.plan import Person, Plan, Referral, SendMessage, generate_plan
from tests.chaos.harness.workload import SENDERS, SOURCE_PAIRS, council
from tests.contract.translators.adapters import BARS, FORMS, HL7V2, a_partner
from tests.intake.stored import a_stored_referral

IDENTITY = Identity("a run", 3)
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
TAKEN = (Verdict.RECEIVED, Verdict.UPDATED, Verdict.CANCELLED, Verdict.REPEAT, Verdict.STALE)


@pytest.fixture(scope="module")
def plans() -> list[Plan]:
    return [generate_plan(seed) for seed in range(1, 101)]


def messages_of(plans: list[Plan]) -> Iterator[tuple[Person, Referral, SendMessage]]:
    for one in plans:
        for person in one.persons:
            for given in person.inputs:
                if isinstance(given, SendMessage):
                    yield person, person.referrals[given.referral], given


def way_of(one: Referral) -> tuple[Any, ...]:
    return one.partner, one.format, one.practice, one.form, one.asker, one.over_http


def test_the_first_hundred_plans_have_every_kind_of_message_in_every_format(plans: list[Plan]) -> None:
    kinds = {(one.format, given.kind) for _, one, given in messages_of(plans)}
    everything = {"new", "update", "late", "cancel", "repeat", "conflict", "bad", "unknown-cancel"}
    everywhere = {(each, kind) for each in ("bars", "form", "hl7", "csv") for kind in everything}
    only_hl7 = {("hl7", "stranger"), ("hl7", "adt"), ("hl7", "adt-stranger")}
    assert kinds == everywhere - {("form", "conflict"), ("hl7", "conflict")} | {("bars", "stranger")} | only_hl7


def test_the_first_hundred_plans_have_every_pair_of_sources_in_both_orders(plans: list[Plan]) -> None:
    sources = {(w.partner, w.format, w.practice, w.form, w.asker, w.over_http): w.source for w in SENDERS}
    persons = [person for one in plans for person in one.persons if len(person.referrals) == 2]
    pairs = Counter((sources[way_of(p.referrals[0])], sources[way_of(p.referrals[1])]) for p in persons)
    assert pairs.keys() == set(SOURCE_PAIRS)
    assert min(pairs.values()) > 2


def test_the_first_twelve_seeds_use_every_sender(plans: list[Plan]) -> None:
    senders = Counter(way_of(one) for each in plans[:12] for person in each.persons for one in person.referrals)
    partners = Counter((one[0], one[3], one[5]) for one in senders.elements())
    assert senders.keys() == {(w.partner, w.format, w.practice, w.form, w.asker, w.over_http) for w in SENDERS}
    assert min(partners.values()) > 2
    other_rows = Counter(one.other_rows for each in plans[:12] for person in each.persons for one in person.referrals)
    assert other_rows.keys() == {0, 1, 2}


def test_the_seeds_of_ci_use_every_sender() -> None:
    chosen = [generate_plan(seed) for seeds in CI.values() for seed in seeds]
    senders = {(one.partner, one.format, one.form, one.over_http) for _, one, _ in messages_of(chosen)}
    assert senders == {(sender.partner, sender.format, sender.form, sender.over_http) for sender in SENDERS}


def test_persons_have_an_nhs_number_or_none_and_invalid_ones_occur_in_hl7_only(plans: list[Plan]) -> None:
    persons = [person for one in plans for person in one.persons]
    assert any(not person.has_nhs_number for person in persons)
    failing = [person for person in persons if person.fails_check]
    assert failing
    assert all(person.referrals[0].format == "hl7" and len(person.referrals) == 1 for person in failing)


def test_the_referrals_of_a_person_have_different_days(plans: list[Plan]) -> None:
    """A tie would be decided by the reference, which differs with and without faults."""
    for person in (person for one in plans for person in one.persons):
        assert len({one.day for one in person.referrals}) == len(person.referrals)


# ---- as intake would judge them ---------------------------------------------------------------------------------------

COUNCIL = {name: council_translator(mapping) for name, mapping in csv.COUNCILS.items()}
FORM = {name: form_translator(form) for name, form in FORMS.items()}


def translated(one: Referral, sent: Message) -> list[Translated | Rejection]:
    """Return one outcome for each row of a file."""
    body = sent.body
    delivery = InboundMessage(a_partner(one.partner), body, NOW, b"a key of these tests", sent.request_id)
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
    """Split at line ends outside quotes."""
    found, held = [], b""
    for line in rows.splitlines(keepends=True):
        held += line
        if held.count(b'"') % 2 == 0 or csv.COUNCILS[name].file.quoting == "none":
            found.append(held)
            held = b""
    return found


def verdicts(person: Person) -> Iterator[tuple[SendMessage, Verdict | None, Translated | None]]:
    """Yield intake's verdict on each message but ADT in order, and what was decided on; None if its format refuses it."""
    held: dict[str, StoredReferral] = {}
    seen: dict[str, AcceptedMessage] = {}
    for place, given in enumerate(person.inputs):
        if not isinstance(given, SendMessage) or given.kind in ADT:
            continue
        sent = message(IDENTITY, person, given, place)
        outcomes = translated(person.referrals[given.referral], sent)
        other_rows = {row for _, row in sent.other_rows}
        own = [one for one in outcomes if isinstance(one, Rejection) or one.referral_id not in other_rows]
        assert len(outcomes) == len(own) + len(sent.other_rows)
        if len(own) == 2 or isinstance(own[0], Rejection):
            yield given, None, None
            continue
        stored = held.setdefault(own[0].referral_id, a_stored_referral())
        one = merged(own[0], stored, is_repeat=any(name in seen for name in own[0].message_ids))
        found = FoundReferral(stored, subject_hashes(b"a key of these tests", one.subject))
        verdict = classify(one, found, [seen[name] for name in one.message_ids if name in seen])
        apply_verdict(one, found, verdict)
        if verdict.is_stored:
            original = AcceptedMessage(own[0].content_hash, uuid4(), stored.reference)
            seen |= dict.fromkeys(one.message_ids, original)
        yield given, verdict, one


def merged(one: Translated, stored: StoredReferral, *, is_repeat: bool) -> Translated:
    """Return a message merged with what is held of its referral, as intake does under the lock."""
    if one.complete is None or stored.fields is None or stored.cancelled or is_repeat:
        return replace(one, complete=None) if is_repeat else one
    whole = one.complete(stored.fields)
    assert isinstance(whole, Translated)
    return replace(whole, complete=one.complete)


WANTED = {
    "new": {Verdict.RECEIVED},
    "update": {Verdict.UPDATED},
    "late": {Verdict.STALE, Verdict.REPEAT, Verdict.UPDATED},
    "cancel": {Verdict.CANCELLED, Verdict.REPEAT},
    "repeat": {Verdict.REPEAT, Verdict.STALE},
    "conflict": {Verdict.CONFLICT, None},
    "bad": {None},
    "stranger": {Verdict.OTHER_PERSON, Verdict.CONTRADICTED},
    "unknown-cancel": {Verdict.UNKNOWN, None},
}


@pytest.mark.parametrize("seed", range(1, 26))
def test_intake_classifies_every_message_of_a_plan_by_its_kind(seed: int) -> None:
    for person in generate_plan(seed).persons:
        for given, verdict, _ in verdicts(person):
            wanted = WANTED[given.kind] | ({Verdict.AFTER_CANCEL} if given.kind == "update" else set())
            assert verdict in wanted, (person.referrals[given.referral], given, verdict)


@pytest.mark.parametrize("seed", range(1, 26))
def test_the_checkers_model_and_intake_agree_on_what_a_ward_has_said(seed: int) -> None:
    for person in generate_plan(seed).persons:
        read: dict[int, Any] = {}
        for given, verdict, one in verdicts(person):
            if one and one.referral and verdict in (Verdict.RECEIVED, Verdict.UPDATED):
                read[given.referral] = one.referral.model_dump(mode="json")
        for at, referral in enumerate(person.referrals):
            if referral.format == "hl7":
                wanted = said.expected(without_adt(person), at)
                assert said.reading(read[at], wanted["need"]) == wanted, (person.number, referral.partner)


def without_adt(person: Person) -> Person:
    return replace(person, inputs=tuple(one for one in person.inputs if getattr(one, "kind", "") not in ADT))
