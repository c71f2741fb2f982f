"""Mutants: each removes one guard in a service's own process. The checker must detect every one of them.

The services contain nothing of this: harness/child/sitecustomize.py calls `apply` if a run was started with a mutant's name. What a
mutant replaces is a public name of the services, so that the type checker reports a rename.
"""

import asyncio
import dataclasses
import os
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # a service imports only what its mutant replaces
    from uuid import UUID

    from aiokafka import TopicPartition
    from faststream.kafka import KafkaBroker
    from mesh_client import MeshClient
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from infra.operations.reconcile.kafka import KeptRecord
    from infra.operations.reconcile.notifier import Outcomes
    from schemas.events import CaseEvent, Event, HubReferral, ReferralContext
    from schemas.referral import Referral
    from services.intake.batch import Batch, PendingMessage, ProtocolResponse
    from services.intake.deduplication import AcceptedMessage, FoundReferral
    from services.intake.translators.hl7v2.field_state import FieldState
    from services.intake.translators.translator import Translated, VisitMessage
    from services.messaging.broker import Receive, Subscription
    from services.messaging.cloudevents import KafkaRecord
    from services.notifier.channels import DeliveryRequest, Outcome, RenderedFeedback
    from services.notifier.compose import Feedback, FeedbackTexts, Recipients, RegisteredRecipient
    from services.reference.directory.model import Directory
    from services.router.decide.acting_hub import ActingHub
    from services.router.decide.model import PersonRecord, ReferralRecord, Role
    from services.router.decide.transition import Transition
    from services.router.store import Input
    from services.runtime.database import Transaction
    from services.runtime.http_limits import HttpLimits
    from services.runtime.positions import Positions
    from services.runtime.process import HttpServers
    from services.runtime.settings import Settings

T = TypeVar("T")
E = TypeVar("E", bound="CaseEvent")


@dataclass(frozen=True)
class Mutant:
    """A guard, the service that has it (or the operator's commands), and how to remove it. plans/NAME.json must show that it is gone."""

    service: str
    guard: str
    apply: Callable[[], None]


def apply(name: str, service: str) -> None:
    """Apply the mutant if it belongs to this service. End the process if that fails: Python itself would start it unchanged."""
    try:
        mutant = MUTANTS[name]
        if mutant.service not in ((service,) if service == "operator" else (service, "every")):
            return
        mutant.apply()
    except Exception:
        traceback.print_exc()
        sys.stderr.write(f"MUTANT NOT APPLIED: {name}\n")
        sys.stderr.flush()
        os._exit(70)
    sys.stderr.write(f"MUTANT APPLIED: {name}\n")


def changed(before: T, after: T) -> T:
    """Return `after`; raise ValueError if nothing would change."""
    if before == after:
        raise ValueError(f"a mutant changes nothing: it is {after!r} already")
    return after


# ---- router -----------------------------------------------------------------------------------------------------------


def no_duplicate_guard() -> None:
    """Treat every input as new, also if it was applied before."""
    from sqlalchemy import text

    from services.router import store

    async def applied(tx: "Transaction", inputs: "Sequence[Input]") -> set[tuple[str, str, str]]:
        return set()

    statement = store.INSERT_INPUTS.text
    store.INSERT_INPUTS = text(f"{statement} on conflict do nothing")
    store.applied = changed(store.applied, applied)


def unlocked_person() -> None:
    """Read the row of a person key without a lock."""
    from sqlalchemy import text

    from services.router import store

    statement = store.LOCK_KEYS.text
    store.LOCK_KEYS = text(changed(statement, statement.replace("for update", "")))


def offset_before_transaction() -> None:
    """Return from the handler at once, so that the offset is committed; run the transaction later."""
    from services.messaging import broker as kafka

    def subscribe(
        broker: "KafkaBroker",
        topics: Sequence[str],
        *,
        group: str,
        receive: "Receive",
        positions: "Positions | None" = None,
    ) -> "Subscription":
        return before(broker, topics, group=group, receive=_in_background(receive), positions=positions)

    before = kafka.subscribe
    kafka.subscribe = subscribe


def _in_background(
    receive: "Receive",
) -> "Callable[[Sequence[KafkaRecord]], Awaitable[None]]":
    """Return a handler that returns at once, and calls `receive` later, until it succeeds, one batch at a time."""
    tasks: set[asyncio.Task[None]] = set()
    turn = asyncio.Lock()

    async def later(records: "Sequence[KafkaRecord]") -> None:
        async with turn:
            while True:
                try:
                    await receive(records)
                    return
                except Exception:
                    await asyncio.sleep(0.2)

    async def at_once(records: "Sequence[KafkaRecord]") -> None:
        task = asyncio.create_task(later(records))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return at_once


def default_ack_policy() -> None:
    """Use FastStream's default: acknowledge before the work, and drop a batch that fails."""
    from faststream import AckPolicy

    from services.messaging import broker

    broker.BATCH_RETRY_SECONDS = changed(broker.BATCH_RETRY_SECONDS, 0.0)
    broker.ACK_POLICY = changed(broker.ACK_POLICY, AckPolicy.ACK_FIRST)


def whereabouts_for_every_hub() -> None:
    """Send every hub the referral as if the person's data were not restricted."""
    from services.router.decide import disclosure

    def referral_for(
        record: "ReferralRecord", person: "PersonRecord", hub: str, role: "Role", directory: "Directory"
    ) -> "Referral":
        return before(record, person.model_copy(update={"restricted_by": ()}), hub, role, directory)

    before = disclosure.referral_for
    disclosure.referral_for = referral_for


def visit_during_a_hold() -> None:
    """Let a hub book a visit while a reported death is not checked."""
    from services.router.decide import deaths

    def reject_while_held(transition: "Transition", acting: "ActingHub") -> None:
        return None

    deaths.reject_while_held = changed(deaths.reject_while_held, reject_while_held)


def no_snapshots() -> None:
    """Send a hub what fits into one event of a case, and not the snapshots that follow."""
    from services.router.decide import hub_events

    def with_referrals(event: "E", referrals: "Sequence[HubReferral]") -> "tuple[E, hub_events.Parts]":
        first, _ = before(event, referrals)
        return first.model_copy(update={"snapshots": 0}), ()

    before = hub_events.with_referrals
    hub_events.with_referrals = changed(hub_events.with_referrals, with_referrals)


def group_of_every_topic() -> None:
    """Name the group of a command by its case alone, whichever hub sent it."""
    from services.router import consumer

    def read_record(record: "KafkaRecord") -> "Input | consumer.Unreadable":
        read = before(record)
        return dataclasses.replace(read, message_group=read.message_group.removeprefix(f"{record.topic}/"))

    before = consumer.read_record
    consumer.read_record = read_record


def pause_of_every_topic() -> None:
    """Pause every partition of the consumer if one topic has too many dead letters."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    def pause(self: AIOKafkaConsumer, *partitions: TopicPartition) -> None:
        before(self, *self.assignment())

    before = AIOKafkaConsumer.pause
    AIOKafkaConsumer.pause = pause


# ---- faults that pass -------------------------------------------------------------------------------------------------


def list_of_passing_faults() -> None:
    """Hold every error of the database against a record that is not on a list of those which pass."""
    from services.runtime import database

    def is_transient(error: BaseException) -> bool:
        state = database.sqlstate(error)
        listed = state is not None and (state.startswith(("08", "40", "53", "57", "58")) or state in ("55P03", "25P03"))
        return before(error) if state is None else listed

    before = database.is_transient
    database.is_transient = changed(before, is_transient)


def no_trial_write() -> None:
    """Read instead of writing: for readiness, for the watchdog, and before a fault is held against a record."""
    from sqlalchemy import text

    from services.runtime import database

    async def check_writable(connection: "AsyncConnection", schema: str) -> None:
        async with connection.begin():
            await connection.execute(text("select 1"))

    database.check_writable = changed(database.check_writable, check_writable)


def read_only_sessions_kept() -> None:
    """Keep a session that has become read-only."""
    from services.runtime import database

    without_25 = ("26", "26", "34")
    database.SESSION_CLASSES = changed(database.SESSION_CLASSES, without_25)


def no_waiting_at_start() -> None:
    """Start at once, or end with the first error."""
    from contextlib import asynccontextmanager

    from services.runtime import startup

    @asynccontextmanager
    async def ready(
        chosen: "Settings",
        checks: "startup.Checks",
        limits: "HttpLimits" = startup.DEFAULT_LIMITS,  # type: ignore[attr-defined]  # imported there
        *,
        only_health: bool = False,
    ) -> "AsyncIterator[HttpServers]":
        for each in checks.values():
            for check in each:
                await check()
        async with before(chosen, checks, limits, only_health=only_health) as servers:
            yield servers

    before = startup.ready
    startup.ready = ready


def gaps_unnoticed() -> None:
    """Read on where records of a topic are missing, and remember nothing of it."""
    from services.runtime import positions

    async def save(
        engine: "AsyncEngine", schema: str, reached: "Mapping[TopicPartition, int]", gaps: "Iterable[positions.Gap]"
    ) -> None:
        await before(engine, schema, reached, [])

    before = positions.save
    positions.save = changed(before, save)


def restore_without_versions() -> None:
    """Do not rebuild what intake held of referrals."""
    from infra.operations.reconcile import intake

    async def rebuild(engine: "AsyncEngine", records: "Sequence[KeptRecord]") -> list[str]:
        return []

    intake.rebuild = changed(intake.rebuild, rebuild)


def restore_repeats_feedback() -> None:
    """Do not mark what feedback.event says was sent."""
    from infra.operations.reconcile import notifier

    async def save_outcomes(engine: "AsyncEngine", known: "Outcomes") -> None:
        return None

    notifier.save_outcomes = changed(notifier.save_outcomes, save_outcomes)


# ---- the relay --------------------------------------------------------------------------------------------------------


def skip_locked_without_order() -> None:
    """Let all relays work on every shard at the same time, on a few packets of any age."""
    import random

    from services.messaging import packets, relay

    async def lock_shards(tx: "Transaction", schema: str) -> list[int]:
        return list(range(packets.SHARDS))

    async def read(tx: "Transaction", schema: str, shards: Sequence[int], paused: Iterable[str]) -> relay.Round:
        found = await before(tx, schema, shards, paused)
        places = random.sample(sorted(found.packets), min(2, len(found.packets)))
        held = random.sample(sorted(found.held), min(2, len(found.held)))
        return dataclasses.replace(
            found,
            packets={place: found.packets[place] for place in places},
            held={place: found.held[place] for place in held},
            blocked=set(),
            more=True,
        )

    before = relay.read
    relay.lock_shards = changed(relay.lock_shards, lock_shards)
    relay.read = read


def moving_cursor() -> None:
    """Remember the last packet that the relay read, and read only those that come after it."""
    from services.messaging import relay

    async def read(tx: "Transaction", schema: str, shards: Sequence[int], paused: Iterable[str]) -> relay.Round:
        found = await before(tx, schema, shards, paused)
        new = {place: messages for place, messages in found.packets.items() if place[1] > last.get(schema, 0)}
        if new:
            last[schema] = max(packet for _, packet in new)
        return dataclasses.replace(found, packets=new)

    last: dict[str, int] = {}
    before = relay.read
    relay.read = read


def one_queue_of_all_topics() -> None:
    """Let a packet of which a topic refuses a message wait before all later ones of its shard; a few are read at a time."""
    from services.messaging import relay

    async def mark(tx: "Transaction", schema: str, backlog: relay.Round, published: "set[relay.Waiting]") -> None:
        whole = {place: messages for place, messages in backlog.packets.items() if published.issuperset(messages)}
        await before(tx, schema, dataclasses.replace(backlog, packets=whole), published)

    before = relay.mark
    relay.mark = changed(before, mark)
    relay.ROUND = changed(relay.ROUND, 4)


def part_marked_as_whole() -> None:
    """Mark a packet when Kafka has acknowledged a part of its messages, and hold nothing of it."""
    from services.messaging import relay

    async def hold(tx: "Transaction", schema: str, held: "Mapping[tuple[int, str, int], list[int]]") -> None:
        """Hold nothing."""

    relay.hold = changed(relay.hold, hold)


# ---- intake -----------------------------------------------------------------------------------------------------------


def answer_before_commit() -> None:
    """Answer the sender with what will be committed, a moment before it is."""
    from services.intake import store

    async def record(
        engine: "AsyncEngine", secret: bytes, messages: "Sequence[PendingMessage]"
    ) -> "list[ProtocolResponse]":
        async def commit() -> "list[ProtocolResponse]":
            async with engine.begin() as tx:
                book, answers = await store.prepare(tx, secret, messages)
                ready.set_result(answers)
                await asyncio.sleep(0.3)
                await store.write(tx, book, answers)
            return answers

        ready: asyncio.Future[list[ProtocolResponse]] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(commit())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        return ready.result() if ready.done() else await task

    tasks: set[asyncio.Task[list[ProtocolResponse]]] = set()
    store.record = changed(store.record, record)


def no_repeat_guard() -> None:
    """Treat every message as not yet accepted."""
    from services.intake import deduplication, store

    def classify(
        message: "Translated", found: "FoundReferral", originals: "Collection[AcceptedMessage]"
    ) -> deduplication.Verdict:
        if found.referral.version == 0 or message.intent == "cancel":
            return before(message, found, ())
        return deduplication.Verdict.UPDATED

    async def insert_keys(tx: "Transaction", book: "Batch") -> None:
        """Write nothing: the unique key of the message ids would refuse it."""

    before = deduplication.classify
    deduplication.classify = classify
    store.insert_keys = changed(store.insert_keys, insert_keys)


def any_person() -> None:
    """Apply a message to a referral whoever its person is."""
    from services.intake import deduplication

    def contradicts(held: str, said: str) -> bool:
        return False

    deduplication.contradicts = changed(deduplication.contradicts, contradicts)


def silence_ends_a_stay() -> None:
    """Forget the stay if a message does not mention it."""
    from services.intake.translators.hl7v2 import field_state

    def merged(held: "FieldState", later: "FieldState") -> "FieldState":
        mentions = any(key.startswith("PV1-") for key in later.units)
        kept = {key: unit for key, unit in held.units.items() if mentions or not key.startswith("PV1-")}
        return before(dataclasses.replace(held, units=kept), later)

    before = field_state.merged
    field_state.merged = changed(before, merged)


def older_update_overwrites() -> None:
    """Apply each field of a message, also if a later one has said it."""
    from services.intake.translators.hl7v2 import field_state

    def merged(held: "FieldState", later: "FieldState") -> "FieldState":
        return before(held, dataclasses.replace(later, until=2**63))

    before = field_state.merged
    field_state.merged = changed(before, merged)


def stranger_is_stored() -> None:
    """Store messages about visits that concern none of the partner's referrals."""
    from services.intake.translators.translator import Issue, Rejection
    from services.intake.visits import Visits

    async def submit(
        self: Visits,
        message: "PendingMessage",
        visit: "VisitMessage",
        of_referral: "Callable[[str], Translated]",
        new_id: "Callable[[], UUID]",
    ) -> "ProtocolResponse":
        answer = await before(self, message, visit, of_referral, new_id)
        if not visit.keys or not await self._find(message.partner, visit):
            refused = Rejection((Issue("MSH-9", "processing", "concerns no referral"),))
            await self._group_commit.submit(dataclasses.replace(message, outcome=refused))
        return answer

    before = Visits.submit
    Visits.submit = submit  # type: ignore[method-assign]


# ---- notifier ---------------------------------------------------------------------------------------------------------


def resend_with_another_id() -> None:
    """Send each attempt with a new id."""
    from uuid import uuid4

    from services.notifier.channels.fhir_endpoint import EndpointAddress, FhirEndpoint

    def headers_for(self: FhirEndpoint, parcel: "DeliveryRequest", address: EndpointAddress) -> dict[str, str]:
        headers = before(self, parcel, address)
        return headers | ({"X-Request-ID": str(uuid4())} if parcel.attempt > 1 else {})

    before = FhirEndpoint.headers_for
    FhirEndpoint.headers_for = headers_for  # type: ignore[method-assign]


def resend_letter_without_tracking() -> None:
    """Send a MESH message again without tracking the first attempt."""
    from services.notifier.channels import mesh

    def track(client: "MeshClient", parcel: "DeliveryRequest") -> "Outcome | None":
        return None

    mesh.track = changed(mesh.track, track)


def address_from_the_message() -> None:
    """Send feedback to the address that the message gives for its sender."""
    from services.notifier import compose as composition
    from services.notifier.channels.fhir_endpoint import EndpointAddress, FhirEndpoint

    def compose_for(
        event: "Event", context: "ReferralContext", recipients: "Recipients", texts: "FeedbackTexts"
    ) -> "list[Feedback]":
        composed = compose(event, context, recipients, texts)
        phone = context.referred_by.phone
        if phone and phone.startswith("http"):
            urls.update({one.id: phone for one in composed})
        return composed

    def address_of(self: FhirEndpoint, parcel: "DeliveryRequest") -> EndpointAddress | None:
        url = urls.get(parcel.feedback_id)
        return EndpointAddress(url, None) if url else look_up(self, parcel)

    urls: dict[str, str] = {}
    compose, look_up = composition.compose_for, FhirEndpoint.address_of
    composition.compose_for = compose_for
    FhirEndpoint.address_of = address_of  # type: ignore[method-assign]


def one_queue_of_all_recipients() -> None:
    """Lease what has been due longest, whoever receives it; one recipient may take the whole capacity of 16."""
    from services.notifier import delivery, leases

    async def acquire(
        tx: "Transaction", *, limit: int, seconds: float, lease: "UUID", busy: Sequence[str]
    ) -> "leases.Acquired":
        found: list[leases.Lease] = []
        while len(found) < limit:
            one = await before(tx, limit=1, seconds=seconds, lease=lease, busy=[])
            if not one.leases:
                break
            found += one.leases
        return leases.Acquired(found, len(found) == limit)

    before = leases.acquire
    leases.acquire = acquire
    delivery.AT_ONCE = delivery.EACH = changed(delivery.EACH, 16)


def feedback_before_commit() -> None:
    """Start the first attempts a moment before the transaction that stores their feedback is committed."""
    from services.notifier import leases, store
    from services.notifier.delivery import Deliverer

    async def add(
        tx: "Transaction", composed: "Sequence[RenderedFeedback]", at: datetime, capacity: store.Capacity
    ) -> store.StoredBatch:
        stored = await before(tx, composed, at, capacity)
        deliverer = getattr(getattr(capacity, "_reserve", None), "__self__", None)
        if not isinstance(deliverer, Deliverer) or not stored.leased:
            return stored
        for one in stored.leased:
            deliverer._start(leases.of_new(one, capacity.lease))
        await asyncio.sleep(0.3)
        return stored._replace(leased=())

    before = store.add
    store.add = changed(before, add)


def lease_for_two() -> None:
    """Lease new feedback for no time to the process that composed it, so that it is leased again during the first attempt."""
    from services.notifier.delivery import Reservation

    def begin(self: Reservation, reserve: "Callable[[str], bool]", seconds: float) -> None:
        before(self, reserve, 0.0)

    before = Reservation.__init__
    Reservation.__init__ = begin  # type: ignore[method-assign]


def endpoint_rejects_the_message() -> None:
    """Take a redirect or a 404 of an endpoint for a rejection of the message."""
    from services.notifier.channels import fhir_endpoint

    final = frozenset({302, 400, 404, 409, 422})
    fhir_endpoint.ABOUT_THE_MESSAGE = changed(fhir_endpoint.ABOUT_THE_MESSAGE, final)  # type: ignore[attr-defined]  # imported there


def no_circuit() -> None:
    """Let every feedback try an endpoint that answers nobody, each at its own pauses."""
    from services.notifier import circuits

    circuits.OPENS_AFTER = changed(circuits.OPENS_AFTER, 1_000_000)


def mailbox_without_address() -> None:
    """Put the feedback for a partner whose endpoint has no address into a mailbox."""
    from services.notifier.recipients import PartnerRecipients

    def fallen_back(self: PartnerRecipients, found: "RegisteredRecipient | None") -> "RegisteredRecipient | None":
        if found is None or found.recipient.channel != "fhir" or self.fhir_address(found.recipient.id):
            return found
        return found.model_copy(update={"recipient": found.recipient.model_copy(update={"channel": "mailbox"})})

    def partner(self: PartnerRecipients, partner_id: str) -> "RegisteredRecipient | None":
        return fallen_back(self, by_id(self, partner_id))

    def organisation(self: PartnerRecipients, ods: str) -> "RegisteredRecipient | None":
        return fallen_back(self, by_ods(self, ods))

    by_id, by_ods = PartnerRecipients.partner, PartnerRecipients.organisation
    PartnerRecipients.partner = partner  # type: ignore[method-assign]
    PartnerRecipients.organisation = organisation  # type: ignore[method-assign]


def part_as_whole() -> None:
    """Say "completed" when a part of a referral's needs is."""
    from services.notifier import compose

    compose.IN_PART = changed(compose.IN_PART, {whole: whole for whole in compose.IN_PART})


MUTANTS = {
    "no-duplicate-guard": Mutant("router", "the router drops duplicate inputs", no_duplicate_guard),
    "no-repeat-guard": Mutant("intake", "intake stores the ids of accepted messages", no_repeat_guard),
    "any-person": Mutant("intake", "a message about another person than the referral's is refused", any_person),
    "silence-ends-a-stay": Mutant(
        "intake", "a stay continues until a message says that it is over", silence_ends_a_stay
    ),
    "older-update-overwrites": Mutant(
        "intake", "a field is what the latest message said of it", older_update_overwrites
    ),
    "stranger-is-stored": Mutant(
        "intake", "nothing is stored about people who were never referred", stranger_is_stored
    ),
    "offset-before-transaction": Mutant(
        "router", "the offset is committed after the transaction", offset_before_transaction
    ),
    "default-ack-policy": Mutant(
        "router", "a batch is acknowledged only when it is done, and retried until then", default_ack_policy
    ),
    "list-of-passing-faults": Mutant(
        "every", "an error is held against a record only if data can cause it", list_of_passing_faults
    ),
    "no-trial-write": Mutant(
        "every", "a write is tried before a service is ready, or an error is held against a record", no_trial_write
    ),
    "read-only-sessions-kept": Mutant(
        "every", "a session that has become read-only is thrown away, with the pool", read_only_sessions_kept
    ),
    "no-waiting-at-start": Mutant("every", "a service waits at start for its servers", no_waiting_at_start),
    "gaps-unnoticed": Mutant(
        "every", "records that were deleted unread are noticed, and readiness names their topic", gaps_unnoticed
    ),
    "restore-without-versions": Mutant(
        "operator", "after a restore intake's referrals are rebuilt from their events", restore_without_versions
    ),
    "restore-repeats-feedback": Mutant(
        "operator", "after a restore no feedback is sent that was sent before", restore_repeats_feedback
    ),
    "skip-locked": Mutant("every", "one relay at a time works on a shard, in order", skip_locked_without_order),
    "moving-cursor": Mutant(
        "intake", "the relay marks published packets, and reads all that are not marked", moving_cursor
    ),
    "part-marked-as-whole": Mutant(
        "every", "a packet is marked only when all of it is acknowledged, or the rest is held", part_marked_as_whole
    ),
    "no-snapshots": Mutant("router", "what does not fit into an event to a hub follows it in snapshots", no_snapshots),
    "group-of-every-topic": Mutant(
        "router", "a record waits for one of its own topic only, also if another names its case", group_of_every_topic
    ),
    "pause-of-every-topic": Mutant("router", "a topic with too many dead letters pauses alone", pause_of_every_topic),
    "one-queue-of-topics": Mutant(
        "every",
        "what a topic refuses is held apart, and no other topic waits behind it",
        one_queue_of_all_topics,
    ),
    "one-queue-of-recipients": Mutant(
        "notifier",
        "a recipient gets an equal share of the leases, and of the capacity a part",
        one_queue_of_all_recipients,
    ),
    "feedback-before-commit": Mutant(
        "notifier", "feedback is sent after the transaction that stores it has committed", feedback_before_commit
    ),
    "lease-for-two": Mutant("notifier", "one process at a time attempts a feedback, under a lease", lease_for_two),
    "endpoint-rejects-the-message": Mutant(
        "notifier", "what concerns the endpoint is retried, and fails no feedback", endpoint_rejects_the_message
    ),
    "no-circuit": Mutant("notifier", "an endpoint that fails gets one attempt at a time", no_circuit),
    "mailbox-without-address": Mutant(
        "notifier", "a partner without an address keeps its channel, and its feedback waits", mailbox_without_address
    ),
    "part-as-whole": Mutant(
        "notifier", "feedback says completed only if no need of the referral is open", part_as_whole
    ),
    "unlocked-person": Mutant("router", "a person key is locked before its data are read", unlocked_person),
    "whereabouts-for-every-hub": Mutant(
        "router", "only the holder reads where a person with restricted data lives", whereabouts_for_every_hub
    ),
    "visit-during-a-hold": Mutant(
        "router", "no visit is booked while a reported death is not checked", visit_during_a_hold
    ),
    "answer-before-commit": Mutant("intake", "a sender is answered after the commit", answer_before_commit),
    "resend-with-another-id": Mutant(
        "notifier", "every retry has the ids of the first attempt", resend_with_another_id
    ),
    "letter-without-asking": Mutant(
        "notifier", "before a letter is sent again, MESH is checked for it", resend_letter_without_tracking
    ),
    "address-from-the-message": Mutant(
        "notifier", "feedback goes to the directory's address only", address_from_the_message
    ),
}
