"""Limit the share of a topic's records that may become dead letters: beyond it, the topic pauses and nothing of it is stored.

A faulty release or a hub that writes unreadable records cannot empty a topic into dead letters. A topic pauses alone.
See docs/decisions/0030-pause-a-topic-with-too-many-dead-letters.md.
"""

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.messaging.cloudevents import KafkaRecord
from services.messaging.dead_letters import DeadLetter
from services.runtime import database

DEAD_LETTER_SAMPLE = 100
"""Number of a topic's latest records that the share is taken of; with fewer, no topic pauses."""

PAUSE_SECONDS = 30.0
"""Time after which the records of a paused topic are tried again."""


class TooManyDeadLetters(Exception):
    """The declared share of these topics' records would become dead letters: the transaction must be rolled back."""

    def __init__(self, topics: Collection[str]) -> None:
        super().__init__(", ".join(sorted(topics)))
        self.topics = frozenset(topics)


class DeadLetterShare:
    """Remembers for each topic which of its latest records became, or would have become, dead letters.

    `share`: the largest permitted share, from 0 to 1; 1 pauses no topic.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._recent: dict[str, deque[bool]] = defaultdict(lambda: deque(maxlen=DEAD_LETTER_SAMPLE))
        self._checked: dict[str, list[bool]] = {}

    def check(self, records: Iterable[KafkaRecord], letters: Collection[DeadLetter]) -> None:
        """Raise TooManyDeadLetters if a topic of a dead letter exceeds the share; else `count_checked` adds the outcomes, once stored.

        Records that only wait behind a dead letter do not count.
        """
        self._checked = _outcomes(records, letters)
        exceeded = {topic for topic, new in self._checked.items() if any(new) and self._exceeds(topic, new)}
        if exceeded:
            self._checked = {topic: self._checked[topic] for topic in exceeded}
            self.count_checked()  # nothing of it is stored: the topic pauses again until its records are better
            raise TooManyDeadLetters(exceeded)

    def count_checked(self) -> None:
        """Add the outcomes of the last check. Those of a transaction that fails are not added: its records come again."""
        for topic, new in self._checked.items():
            self._recent[topic].extend(new)
        self._checked = {}

    def _exceeds(self, topic: str, new: list[bool]) -> bool:
        latest = [*self._recent[topic], *new][-max(DEAD_LETTER_SAMPLE, len(new)) :]
        return len(latest) >= DEAD_LETTER_SAMPLE and sum(latest) > self._share * len(latest)


def _outcomes(records: Iterable[KafkaRecord], letters: Collection[DeadLetter]) -> dict[str, list[bool]]:
    """Return by topic whether each record becomes a dead letter; records that wait are left out."""
    by_record = {one.record: one for one in letters}
    outcomes: dict[str, list[bool]] = {}
    for record in records:
        letter = by_record.get(record) if by_record else None
        if letter is None or not letter.waiting:
            outcomes.setdefault(record.topic, []).append(letter is not None)
    return outcomes


async def apply_within_share(
    records: Sequence[KafkaRecord],
    act: Callable[[Sequence[KafkaRecord]], Awaitable[None]],
    refuse: Callable[[KafkaRecord, str], Awaitable[None]],
) -> frozenset[str]:
    """Apply records as `database.apply_with_bisection` does, without those of topics for which TooManyDeadLetters is raised.

    Return these topics: their records from then on were not applied.
    """
    paused: set[str] = set()

    async def act_on_others(part: Sequence[KafkaRecord]) -> None:
        while rest := [record for record in part if record.topic not in paused]:
            try:
                await act(rest)
                break
            except TooManyDeadLetters as error:
                paused.update(error.topics)

    async def refuse_within_share(record: KafkaRecord, reason: str) -> None:
        try:
            await refuse(record, reason)
        except TooManyDeadLetters as error:
            paused.update(error.topics)

    await database.apply_with_bisection(records, act_on_others, refuse_within_share)
    return frozenset(paused)


async def mark_paused(engine: AsyncEngine, schema: str, topics: Collection[str]) -> None:
    """Store that these topics are paused until they are tried again, for other processes and `lightbulb status`."""
    if topics:
        async with engine.begin() as tx:
            await tx.execute(
                text(f"""
                    insert into {schema}.paused_topic (topic, until)
                    select topic, clock_timestamp() + make_interval(secs => :seconds) from unnest(cast(:topics as text[])) as given (topic)
                    on conflict (topic) do update set until = excluded.until"""),  # noqa: S608 - schema names are constants
                {"topics": sorted(topics), "seconds": 2 * PAUSE_SECONDS},
            )
