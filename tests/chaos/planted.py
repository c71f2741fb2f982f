"""Planted bugs: each takes one guard away, in a service's own process only. The checker must catch every one of them.

Nothing of this is in the services: child/sitecustomize.py calls `plant` where a run was told a bug's name.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bug:
    """What is taken away, in which service, and the seed and faults that it is hunted with."""

    service: str
    guard: str
    plant: Callable[[], None]
    seeds: tuple[int, ...] = (2, 3, 5)
    faults: tuple[str, ...] | None = None
    seconds: float = 5.0
    """How long each of the faults lasts."""
    crowded: bool = False
    """Each update comes at once with a command, on another topic."""


def plant(name: str, service: str) -> None:
    """Take this bug's guard away, where it is this service's."""
    bug = BUGS[name]
    if bug.service in (service, "every"):
        bug.plant()
        sys.stderr.write(f"PLANTED {name}\n")


def replace(place: Any, name: str, new: Any) -> Any:
    """Put `new` where `name` is; what was there before. A name that is not there ends the process: nothing would be planted."""
    if not hasattr(place, name):
        sys.stderr.write(f"CANNOT PLANT: {place} has no {name}\n")
        os._exit(70)
    before = getattr(place, name)
    setattr(place, name, new)
    return before


# ---- router -----------------------------------------------------------------------------------------------------------


def no_duplicate_guard() -> None:
    """What was applied before is taken for new."""
    from services.router import store

    async def mark(tx: Any, inputs: Sequence[Any], *more: Any) -> Any:
        await before(tx, inputs, *more)
        return {one.identity for one in inputs}

    before = replace(store, "mark", mark)


def unlocked_person() -> None:
    """The key's row is read without a lock, and made in a statement of its own beforehand."""
    from sqlalchemy import text

    from services.router import store

    replace(
        store,
        "_LOCK_KEYS",
        text("select person_key, last_sequence from router.person_key where person_key = any(cast(:keys as text[]))"),
    )


def offset_before_transaction() -> None:
    """The handler returns at once, so that the offset is committed; the transaction comes when it comes."""
    from services.messaging import broker

    def subscribe(*words: Any, receive: Any, **more: Any) -> Any:
        tasks: set[asyncio.Task[None]] = set()
        turn = asyncio.Lock()

        async def later(records: Sequence[Any]) -> None:
            async with turn:
                while True:
                    try:
                        return await receive(records)
                    except Exception:
                        await asyncio.sleep(0.2)

        async def at_once(records: Sequence[Any]) -> None:
            task = asyncio.create_task(later(records))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        return before(*words, receive=at_once, **more)

    before = replace(broker, "subscribe", subscribe)


def default_ack_policy() -> None:
    """FastStream's own: acknowledged before the work, and an error is the end of a record."""
    from faststream import AckPolicy
    from faststream.kafka import KafkaBroker

    from services.messaging import broker

    replace(broker, "PATIENCE_SECONDS", 0.0)

    def subscriber(self: Any, *topics: Any, **more: Any) -> Any:
        return before(self, *topics, **(more | {"ack_policy": AckPolicy.ACK_FIRST}))

    before = replace(KafkaBroker, "subscriber", subscriber)


# ---- the relay --------------------------------------------------------------------------------------------------------


def skip_locked_without_order() -> None:
    """Relays share the rows between them by SKIP LOCKED, whoever comes first, and nobody keeps a key's order."""
    from sqlalchemy import text

    from services.messaging import outbox

    async def lock_shards(self: Any, tx: Any) -> list[int]:
        return list(range(outbox.SHARDS))

    async def unpublished(self: Any, tx: Any, shards: list[int]) -> list[Any]:
        rows = await tx.execute(
            text(f"""
                select id, person_key, target, headers, value from {self._schema}.outbox
                where published_at is null and target <> all(cast(:paused as text[]))
                order by random() limit 2 for update skip locked"""),
            {"paused": self._still_paused()},
        )
        return [outbox._Row(*row) for row in rows]

    replace(outbox.Relay, "_lock_shards", lock_shards)
    replace(outbox.Relay, "_unpublished", unpublished)


def moving_cursor() -> None:
    """The relay remembers the last id that it read, and never looks back."""
    from services.messaging import outbox

    async def unpublished(self: Any, tx: Any, shards: list[int]) -> list[Any]:
        rows = [row for row in await before(self, tx, shards) if row.id > seen.get(self._schema, 0)]
        if rows:
            seen[self._schema] = max(row.id for row in rows)
        return rows

    seen: dict[str, int] = {}
    before = replace(outbox.Relay, "_unpublished", unpublished)


# ---- intake -----------------------------------------------------------------------------------------------------------


def answer_before_commit() -> None:
    """The sender is answered with what will be committed, a moment before it is."""
    from services.intake import batching, store

    async def record(engine: Any, secret: bytes, arrivals: Sequence[Any]) -> Any:
        async def commit() -> None:
            async with engine.begin() as tx:
                book = await store._read(tx, secret, arrivals)
                for arrival in arrivals:
                    store.ledger.decide(book, secret, arrival)
                await store._answers_before(tx, book)
                answers = [store.ledger.answer(book, at) for at in range(len(arrivals))]
                ready.set_result(answers)
                await asyncio.sleep(0.3)
                await store._write(tx, book, answers)

        ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(commit())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        return ready.result() if ready.done() else await task

    tasks: set[Any] = set()
    replace(store, "record", record)
    assert batching.store is store


def no_repeat_guard() -> None:
    """Intake has never seen anything: a repeat is a message like any other."""
    from services.intake import ledger, store
    from services.intake.identity import Verdict

    def judge(incoming: Any, held: Any, seen: Any) -> Any:
        if held.version == 0 or incoming.intent == "cancel":
            return before(incoming, held, {})
        return Verdict.UPDATED

    async def keep_claims(tx: Any, book: Any) -> None:
        """The table of message ids would stand in the way."""

    before = replace(ledger, "judge", judge)
    replace(store, "_keep_claims", keep_claims)


# ---- notifier ---------------------------------------------------------------------------------------------------------


def resend_with_another_id() -> None:
    """Every attempt has an id of its own."""
    from uuid import uuid4

    from services.notifier.channels.fhir_endpoint import FhirEndpoint

    def headers_for(self: Any, parcel: Any, address: Any) -> dict[str, str]:
        made: dict[str, str] = before(self, parcel, address)
        return made | ({"X-Request-ID": str(uuid4())} if parcel.attempt > 1 else {})

    before = replace(FhirEndpoint, "_headers_for", headers_for)


def letter_without_asking() -> None:
    """A letter is sent again without asking MESH what became of the first."""
    from services.notifier.channels import mesh

    replace(mesh, "_ask", lambda client, parcel: None)


def address_from_the_message() -> None:
    """Feedback goes to where the message says that its sender can be reached."""
    from services.notifier import feedback
    from services.notifier.channels import fhir_endpoint

    addresses: dict[str, str] = {}

    def compose_for(event: Any, concern: Any, *more: Any) -> Any:
        told = before(event, concern, *more)
        said = concern.referred_by.phone
        addresses.update({one.id: said for one in told if said and said.startswith("http")})
        return told

    async def deliver(self: Any, parcel: Any) -> Any:
        if url := addresses.get(parcel.feedback_id):
            self = _At(self, fhir_endpoint.Address(url, None))
        return await delivers(self, parcel)

    before = replace(feedback, "compose_for", compose_for)
    delivers = replace(fhir_endpoint.FhirEndpoint, "deliver", deliver)


class _At:
    """The carrier, with one address for everybody."""

    def __init__(self, carrier: Any, address: Any) -> None:
        self._carrier, self._address = carrier, address

    def __getattr__(self, name: str) -> Any:
        return getattr(self._carrier, name)

    def _addresses(self, recipient: str) -> Any:
        return self._address


BUGS = {
    "no-duplicate-guard": Bug(
        "router",
        "the router's inputs are dropped when they come again",
        no_duplicate_guard,
        faults=("answer-lost-commit", "kill-both"),
    ),
    "no-repeat-guard": Bug("intake", "intake knows the messages that it has accepted", no_repeat_guard),
    "offset-before-transaction": Bug(
        "router",
        "the offset is committed after the transaction",
        offset_before_transaction,
        faults=("hang-postgres", "kill-both"),
    ),
    "default-ack-policy": Bug(
        "router",
        "a batch is acknowledged when it is done, and retried until it is",
        default_ack_policy,
        faults=("serialization", "sessions-ended"),
    ),
    "skip-locked": Bug(
        "every", "one relay at a time works on a shard, in order", skip_locked_without_order, (4, 8, 12)
    ),
    "moving-cursor": Bug(
        "intake",
        "the relay marks rows, and reads whatever is not marked",
        moving_cursor,
        faults=("cut-kafka",),
        seconds=11.0,
    ),
    "unlocked-person": Bug(
        "router",
        "a person key is locked before anything of it is read",
        unlocked_person,
        (4, 8, 12, 16, 20),
        ("slow-postgres",),
        seconds=20.0,
        crowded=True,
    ),
    "answer-before-commit": Bug(
        "intake", "a sender is answered after the commit", answer_before_commit, faults=("kill-both", "cut-postgres")
    ),
    "resend-with-another-id": Bug(
        "notifier",
        "every resend has the ids of the first attempt",
        resend_with_another_id,
        faults=("answer-lost-fhir",),
    ),
    "letter-without-asking": Bug(
        "notifier",
        "before a letter is sent again MESH is asked what it has",
        letter_without_asking,
        faults=("answer-lost-mesh",),
    ),
    "address-from-the-message": Bug(
        "notifier", "feedback goes to the directory's address only", address_from_the_message
    ),
}
