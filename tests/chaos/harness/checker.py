"""Check the evidence of a run against I1 to I11, without I/O and code of the services; the rules are those of docs/architecture.md.

The invariants of feedback (I5) are in feedback_invariants.py, those of bounded work (I9) in bound_invariants.py,
that of hubs' topics (I10) in hub_topics.py, that of passing faults (I11) in passing_invariants.py.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.harness import said
from tests.chaos.harness.bound_invariants import malformed_commands_are_refused_once, others_do_not_wait
from tests.chaos.harness.evidence import Evidence
from tests.chaos.harness.feedback_invariants import feedback_is_delivered
from tests.chaos.harness.history import Answer
from tests.chaos.harness.hub_topics import cases_are_known_from_topics
from tests.chaos.harness.load import FIRST_OF_LOAD
from tests.chaos.harness.passing_invariants import passing_faults_are_waited_out
from tests.chaos.harness.plan import Person, SendMessage
from tests.chaos.harness.sinks import Entry
from tests.chaos.harness.topic_records import CASE_EVENT, first_occurrences, first_occurrences_of, of, type_of

APPLIED = ("received", "updated", "cancelled", "not-applied", "contradicted")
ACKNOWLEDGED = ("new", "update", "late", "cancel", "repeat")


@dataclass(frozen=True)
class Violation:
    """One violation of an invariant."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


def check(evidence: Evidence) -> list[Violation]:
    """Check I1 to I7 and I9 to I11."""
    return [
        Violation(name, what)
        for name, invariant in (
            ("I1", no_referral_is_lost),
            ("I2", no_input_is_applied_twice),
            ("I3", events_are_in_order),
            ("I4", outbox_is_published),
            ("I5", feedback_is_delivered),
            ("I6", stored_data_are_consistent),
            ("I7", resources_are_released),
            ("I9", others_do_not_wait),
            ("I10", cases_are_known_from_topics),
            ("I11", passing_faults_are_waited_out),
        )
        for what in invariant(evidence)
    ]


# ---- I1 ---------------------------------------------------------------------------------------------------------------


def no_referral_is_lost(e: Evidence) -> Iterator[str]:
    """Check that every acknowledged referral is one referral of one case, or one dead letter of a record that the plan poisoned."""
    yield from _answers_as_planned(e)
    at_intake = Counter(row["reference"] for row in e.intake)
    routed = Counter(row["reference"] for row in e.referrals)
    cases = {(row["person_key"], row["case_id"]) for row in e.cases}
    for reference in sorted({a.reference for a in e.history.answers if a.is_acknowledged and a.reference}):
        if at_intake[reference] != 1:
            yield f"{reference} was acknowledged and is {at_intake[reference]} times at intake"
        if routed[reference] != 1:
            yield f"{reference} was acknowledged and is {routed[reference]} times at the router"
    for row in e.referrals:
        if (row["person_key"], row["case_id"]) not in cases:
            yield f"{row['reference']} is on a case that is not there"
    yield from _router_has_the_newest_version(e)
    yield from _refused_messages_have_no_effect(e)
    yield from _strangers_are_not_stored(e)
    yield from _only_poison_is_dead_lettered(e)


def _answers_as_planned(e: Evidence) -> Iterator[str]:
    """Check that every message has an answer, and, if its order is certain, that it is the expected one."""
    sent = {(answer.message.person, answer.message.place) for answer in e.history.answers}
    for person in e.plan.persons:
        for place, given in enumerate(person.inputs):
            if hasattr(given, "kind") and (person.number, place) not in sent:
                yield f"message {place} of person {person.number} ({given.kind}) was never answered"
    if e.plan.races:
        return
    for answer in e.history.answers:
        kind = answer.message.kind
        if answer.is_acknowledged != _is_wanted(e, answer):
            yield (
                f"a {kind} of person {answer.message.person} ({answer.message.partner}) was answered"
                f" {answer.status} {answer.code}"
            )


def _is_wanted(e: Evidence, answer: Answer) -> bool:
    """Return whether a message must be acknowledged. HL7 v2: one about somebody else is too, and none after a cancel."""
    sent = answer.message
    if sent.kind == "beside":
        return True
    person = next(one for one in e.plan.persons if one.number == sent.person)
    if person.referrals[sent.referral].format != "hl7":
        return sent.kind in ACKNOWLEDGED
    before = [
        one for one in person.inputs[: sent.place] if isinstance(one, SendMessage) and one.referral == sent.referral
    ]
    is_cancelled = any(one.kind == "cancel" for one in before)
    return sent.kind in (*ACKNOWLEDGED, "stranger", "adt", "adt-stranger") and not (
        is_cancelled and sent.kind == "update"
    )


def _refused_messages_have_no_effect(e: Evidence) -> Iterator[str]:
    """Check that a refused message is stored and has no effect.

    In a race a refused message may be accepted when it is sent again, unless its format refuses it.
    """
    if e.is_restored:
        return
    kept: dict[str, set[str]] = defaultdict(set)
    for row in e.messages:
        kept[row["name"]].add(row["verdict"])
    other_rows = {answer.message.correlation_id for answer in e.history.answers if answer.message.kind == "beside"}
    for answer in e.history.answers:
        name, kind = answer.message.correlation_id, answer.message.kind
        if answer.is_acknowledged or name in other_rows or (kind != "bad" and e.plan.races):
            continue
        if not kept[name] or kept[name] & set(APPLIED):
            yield f"a {kind} of person {answer.message.person} was refused, and is kept as {sorted(kept[name]) or 'nothing'}"


def _strangers_are_not_stored(e: Evidence) -> Iterator[str]:
    """Check that nothing of ADT about somebody who was never referred is stored."""
    names = {answer.message.correlation_id for answer in e.history.answers if answer.message.kind == "adt-stranger"}
    for row in e.messages:
        if row["name"] in names:
            yield f"an ADT of a stranger is stored as {row['verdict']}"


def _router_has_the_newest_version(e: Evidence) -> Iterator[str]:
    """Check that the router has the newest version that intake has stored."""
    known = {row["reference"]: row["version"] for row in e.referrals}
    for row in e.intake:
        if row["reference"] in known and known[row["reference"]] != row["version"]:
            yield f"{row['reference']} is version {row['version']} at intake and {known[row['reference']]} at the router"


def _only_poison_is_dead_lettered(e: Evidence) -> Iterator[str]:
    places = {(entry.topic, entry.partition, entry.offset) for entry in e.poisoned}
    may_be = {(entry.topic, entry.partition, entry.offset) for entry in e.flooding} | places
    dead_letters = Counter((row["topic"], row["partition"], row["offset"]) for row in e.dead_letters)
    for row in e.dead_letters:
        if (row["topic"], row["partition"], row["offset"]) not in may_be:
            place = f"{row['topic']}/{row['partition']}/{row['offset']}"
            yield f"{place} is a dead letter of {row['schema']} ({row['reason']}), but was not poisoned"
    for poisoned in sorted(places):
        if dead_letters[poisoned] != 1:
            yield f"the poisoned record {poisoned} is a dead letter {dead_letters[poisoned]} times"


# ---- I2 ---------------------------------------------------------------------------------------------------------------


def no_input_is_applied_twice(e: Evidence) -> Iterator[str]:
    yield from _one_version_for_each_message(e)
    numbers: dict[str, set[str]] = defaultdict(set)
    for entry in of(e, CASE_EVENT):
        numbers[entry.headers["ce_id"]].add(entry.headers["ce_sequence"])
    for row in e.case_events:
        numbers[row["id"]].add(str(row["sequence"]))
    for event, held in sorted(numbers.items()):
        if len(held) > 1:
            yield f"event {event} has the numbers {sorted(held)}: what led to it was applied more than once"
    begun = Counter(reference for entry in first_occurrences(e) for reference in _referrals_added_by(entry))
    for reference, times in sorted(begun.items()):
        if times != 1:
            yield f"{reference} was opened or joined {times} times"
    yield from _one_effect_for_each_command(e)
    yield from malformed_commands_are_refused_once(e)


def _one_version_for_each_message(e: Evidence) -> Iterator[str]:
    """Check that each message made at most one version, however often it was sent, and that versions count these messages."""
    versions_made = Counter((row["name"], row["reference"]) for row in e.messages if row["verdict"] in APPLIED)
    for (name, reference), times in sorted(versions_made.items()):
        if times > 1:
            yield f"a message ({name}) made {times} versions of {reference}"
    if e.is_restored:
        return
    versions = Counter(row["reference"] for row in e.messages if row["verdict"] in APPLIED)
    for row in e.intake:
        if versions[row["reference"]] != row["version"]:
            yield f"{row['reference']} has version {row['version']} by {versions[row['reference']]} messages"


def _referrals_added_by(entry: Entry) -> list[str]:
    """Return the referral that this event added to a case."""
    match type_of(entry):
        case "opened":
            return [concern["reference"] for concern in entry.data["referral_contexts"]]
        case "joined":
            return [entry.data["joined"]]
        case _:
            return []


def _one_effect_for_each_command(e: Evidence) -> Iterator[str]:
    """Check that each command led to one event or one refusal."""
    effects: dict[str, set[str]] = defaultdict(set)
    for entry in of(e, CASE_EVENT):
        if command := entry.data.get("command_id"):
            effects[command].add(entry.headers["ce_id"])
    for entry in e.records:
        if type_of(entry) == "command-refused" and entry.data.get("command_id"):
            effects[f"{entry.topic} {entry.data['command_id']}"].add(entry.headers["ce_id"])
            if entry.data["command_id"] in effects:
                yield f"command {entry.data['command_id']} had its effect, and was refused too"
    for command, ids in sorted(effects.items()):
        kinds = Counter(_effect(entry) for entry in first_occurrences(e) if entry.data.get("command_id") == command)
        if any(times > 1 for times in kinds.values()) or (" " in command and len(ids) > 1):
            yield f"command {command} had {len(ids)} effects"


def _effect(entry: Entry) -> tuple[str, ...]:
    """Return the type of an event and the referrals of its contexts: an event about many is several, each with other contexts."""
    return type_of(entry), *sorted(context["reference"] for context in entry.data.get("referral_contexts", ()))


# ---- I3 ---------------------------------------------------------------------------------------------------------------


def events_are_in_order(e: Evidence) -> Iterator[str]:
    """Check that first occurrences are numbered 1..n in order: each key on case.event, each (hub, case) on its hub's topic."""
    sequences: dict[str, list[int]] = defaultdict(list)
    for entry in first_occurrences(e):
        sequences[entry.key].append(int(entry.headers["ce_sequence"]))
    for key, last in sorted(e.keys.items()):
        if sequences[key] != list(range(1, last + 1)):
            yield f"key {key} has on case.event {sequences[key]}, and was numbered to {last}"
    versions: dict[tuple[str, str], list[int]] = defaultdict(list)
    for entry in first_occurrences_of(entry for entry in e.records if entry.topic.endswith(".case")):
        if type_of(entry) != "command-refused":
            versions[entry.topic, entry.data["case_id"]].append(entry.data["hub_version"])
    for (topic, case), seen in sorted(versions.items()):
        if seen != list(range(1, len(seen) + 1)):
            yield f"case {case} has on {topic} the versions {seen}"
    received = {(entry.topic, entry.headers.get("ce_id")) for entry in e.records}
    for row in e.for_hubs:
        if (row["target"], row["id"]) not in received:
            yield f"event {row['id']} never came to {row['target']}"


# ---- I4 ---------------------------------------------------------------------------------------------------------------


def outbox_is_published(e: Evidence) -> Iterator[str]:
    yield from (note.removeprefix("I4 ") for note in e.history.notes if note.startswith("I4 "))
    if e.unpublished:
        yield f"{e.unpublished} packets of an outbox are not published after the run"
    published = {(entry.key, entry.headers.get("ce_id")) for entry in of(e, CASE_EVENT)}
    for row in e.case_events:
        if (row["person_key"], row["id"]) not in published:
            yield f"event {row['sequence']} of key {row['person_key']} is not on case.event"
    events = Counter(
        (entry.data["reference"], entry.data["version"]) for entry in first_occurrences_of(of(e, "referral.event"))
    )
    for row in e.intake:
        for version in range(1, row["version"] + 1):
            if events[row["reference"], version] != 1:
                yield f"version {version} of {row['reference']} is {events[row['reference'], version]} events"


# ---- I6, I7 -----------------------------------------------------------------------------------------------------------


def stored_data_are_consistent(e: Evidence) -> Iterator[str]:
    """Check that the router holds only referrals of intake, that each version has its message, and that holds are kept."""
    held = {row["reference"]: row for row in e.intake}
    for row in e.referrals:
        if row["reference"] not in held:
            yield f"{row['reference']} is at the router, and intake does not hold it"
        elif held[row["reference"]]["person_key"] != row["person_key"]:
            yield f"{row['reference']} has another key at the router than at intake"
    applied = {row["correlation_id"] for row in e.messages if row["verdict"] in APPLIED}
    for one in e.inputs:
        if one["topic"] == "referral.event" and one["correlation_id"] not in applied and not e.is_restored:
            yield f"the router applied {one['id']}, which no message led to"
    yield from _fields_are_those_of_the_latest_message(e)
    for entry in first_occurrences(e):
        if type_of(entry) in ("booked", "started") and entry.data.get("case", {}).get("check_before_contact"):
            yield f"case {entry.data['case_id']} was {type_of(entry)} while a reported death was not checked"


def _fields_are_those_of_the_latest_message(e: Evidence) -> Iterator[str]:
    """Check that each field of an HL7 v2 referral is what the latest message said of it, whatever came last. In a race: without cancels."""
    newest: dict[str, Entry] = {}
    for entry in of(e, "referral.event"):
        if "referral" in entry.data:
            held = newest.get(entry.data["reference"])
            if held is None or held.data["version"] < entry.data["version"]:
                newest[entry.data["reference"]] = entry
    for reference, (person, at) in _hl7_referrals(e).items():
        if reference in newest:
            wanted = said.expected(person, at)
            read = said.reading(newest[reference].data["referral"], wanted["need"])
            if read != wanted:
                yield f"{reference} (person {person.number}) says {read}, its messages {wanted}"


def _hl7_referrals(e: Evidence) -> dict[str, tuple[Person, int]]:
    """Return the HL7 v2 referrals whose end is certain, by reference."""
    persons = {person.number: person for person in e.plan.persons}
    found = {}
    for answer in e.history.answers:
        sent = answer.message
        if answer.reference and answer.is_acknowledged and sent.kind != "beside":
            person = persons[sent.person]
            kinds = {
                one.kind for one in person.inputs if isinstance(one, SendMessage) and one.referral == sent.referral
            }
            if person.referrals[sent.referral].format == "hl7" and not (e.plan.races and "cancel" in kinds):
                found[answer.reference] = person, sent.referral
    return found


FILES_LIMIT, CONNECTIONS_LIMIT, MEGABYTES_LIMIT = 150, 90, 450


def resources_are_released(e: Evidence) -> Iterator[str]:
    if "not quiescent" in e.history.notes:
        yield "the installation did not become quiescent"
    yield from (note for note in e.history.notes if note.startswith("no effect seen"))
    if e.lag:
        yield f"{e.lag} records are not committed"
    if e.open_transactions:
        yield f"{e.open_transactions} transactions are open"
    for process in e.processes:
        if (
            process.files > FILES_LIMIT
            or process.connections > CONNECTIONS_LIMIT
            or process.megabytes > MEGABYTES_LIMIT
        ):
            yield f"{process}"


# ---- I8 ---------------------------------------------------------------------------------------------------------------

State = dict[str, Any]


def final_state(e: Evidence) -> State:
    """Return the final state of each referral without ids, keys and times. It depends on the plan only."""
    named = {
        a.reference: f"person {a.message.person} referral {a.message.referral}"
        for a in e.history.answers
        if a.reference and a.message.person < FIRST_OF_LOAD
    }
    cases = {row["case_id"]: row for row in e.cases}
    feedback: dict[str, list[str]] = defaultdict(list)
    for row in e.feedback:
        feedback[row["reference"]].append(f"{row['recipient']}: {row['feedback_type']} {row['status']} {row['state']}")
    at_intake = {row["reference"]: row for row in e.intake}
    return {
        named[row["reference"]]: {
            "version": row["version"],
            "status": row["status"],
            "home hub": row["home_hub"],
            "cancelled": at_intake[row["reference"]]["cancelled"],
            "case": {name: cases[row["case_id"]][name] for name in ("status", "business_status", "holder", "pathway")},
            "with": sorted(named[o["reference"]] for o in e.referrals if o["case_id"] == row["case_id"]),
            "events": e.keys[row["person_key"]],
            "feedback": sorted(feedback[row["reference"]]),  # in which order, I5 says
        }
        for row in e.referrals
        if row["reference"] in named and row["reference"] in at_intake and row["case_id"] in cases
    }


def differences(faulty: State, baseline: State) -> list[Violation]:
    """Check I8: the final state is the same with faults as without."""
    return [
        Violation("I8", f"{name}: {faulty.get(name)} under faults, {baseline.get(name)} without")
        for name in sorted(faulty.keys() | baseline.keys())
        if faulty.get(name) != baseline.get(name)
    ]
