"""Send a trust's backlog, nearly all of it ADT, and its referrals next to it, to see whether the feed delays them.

`python -m bench.backlog --count 10000` starts an installation on embedded parts without a limit of the rate, sends the feed on the
trust's port for ADT and referrals on its other port, both over loopback, and prints messages per second, how long each referral waited
for its answer, and how many were answered while the feed still had messages to send. Exits with 1 if any was not.
"""

import argparse
import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.messages import messages
from infra.local import installation
from infra.local.installation import Plan
from infra.partner_simulators.mllp_client import framed

TRUST = "uhl"
WINDOW = 50
"""Messages of the feed that are sent before the first of them is answered: more than a trust's engine would send."""
KNOWN_EVERY = 10
"""One in this number of messages of the feed is about a person who was referred; the others are about strangers."""
ANSWER_SECONDS = 120.0
console = Console(width=120)


@dataclass
class Outcome:
    """What was sent, how long it took, and what was not acknowledged."""

    feed_sent: int = 0
    feed_seconds: float = 0.0
    referrals: list[float] = field(default_factory=list)
    """Seconds that each referral waited for its acknowledgement, of those that were sent while the feed ran."""
    not_accepted: int = 0

    @property
    def rate(self) -> float:
        """Messages of the feed per second."""
        return self.feed_sent / self.feed_seconds if self.feed_seconds else 0.0


@dataclass(frozen=True)
class Inpatient:
    """A referred inpatient: the ids that a trust's messages about one visit share."""

    number: str
    hospital_number: str
    visit: str


def patients(count: int, run: str) -> Iterator[Inpatient]:
    """Yield people with synthetic NHS numbers (999...), hospital and visit numbers of this run."""
    for at, message in enumerate(messages(count, run)):
        [number] = {part for part in message.body.decode().split('"') if part.startswith("999") and len(part) == 10}
        yield Inpatient(number, f"S{run}{at}", f"V{run}{at}")


def _segments(kind: str, at: str, person: Inpatient, ward: str, *more: str) -> bytes:
    pv1 = "|".join(["PV1", "1", "I", f"{ward}^B^4^LRI", *[""] * 15, person.visit, *[""] * 24, "20261107"])
    ids = f"{person.hospital_number}^^^UHL^MRN~{person.number}^^^^NHS"
    segments = [
        f"MSH|^~\\&|UHL_EPR|RWE|LIGHTBULB|LIGHTBULB|{at}||{kind}|{uuid.uuid4().hex[:18]}|P|2.5|||||GBR|UNICODE UTF-8",
        *more,
        f"PID|1||{ids}||Vance^Ada^^^MS^^L||19440229|F|||1 Any Lane^^Loughborough^^LE11 5AA^^H",
        pv1,
    ]
    return "".join(segment + "\r" for segment in segments).encode()


def referral(person: Inpatient) -> bytes:
    """Return a REF^I12 of an inpatient."""
    rf1 = f"RF1|A|R|ADAPT|||R{person.visit}|20261108|||FALLS"
    return _segments("REF^I12", f"{datetime.now(UTC):%Y%m%d%H%M%S}+0000", person, "WARD 23", rf1)


def movement(person: Inpatient, number: int) -> bytes:
    """Return an ADT^A02 of the person's visit."""
    return _segments("ADT^A02", f"{datetime.now(UTC):%Y%m%d%H%M%S}+0000", person, f"WARD {number % 40}", "EVN|A02")


# ---- sending ------------------------------------------------------------------------------------------------------------


@dataclass
class Engine:
    """One connection of the trust's integration engine."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    outcome: Outcome

    async def send(self, *bodies: bytes) -> None:
        """Send these messages at once, and wait until each is answered."""
        self.writer.write(b"".join(map(framed, bodies)))
        await self.writer.drain()
        for _ in bodies:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self.reader.readuntil(b"\x1c\r")
            self.outcome.not_accepted += b"\rMSA|AA|" not in answer


@asynccontextmanager
async def _engine(address: str, outcome: Outcome) -> AsyncIterator[Engine]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Engine(reader, writer, outcome)
    finally:
        writer.close()


async def play(addresses: Mapping[str, Any], feed: int, referrals: int, *, stops: bool = False) -> Outcome:
    """Send a feed of ADT, and referrals next to it, one after the other; return the outcome.

    `stops`: the feed ends when the last referral is answered; else it is sent whole.
    """
    people = list(patients(feed + referrals, uuid.uuid4().hex[:6]))
    outcome, done, ended = Outcome(), asyncio.Event(), asyncio.Event()
    known, strangers = people[:referrals], people[referrals:]
    async with (
        _engine(addresses["adt_mllp"][TRUST], outcome) as adt,
        _engine(addresses["mllp"][TRUST], outcome) as others,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(_send_feed(adt, feed, known, strangers, done if stops else asyncio.Event(), ended))
        group.create_task(_send_referrals(others, known, done, ended))
    return outcome


async def _send_referrals(
    engine: Engine, known: Sequence[Inpatient], done: asyncio.Event, ended: asyncio.Event
) -> None:
    for person in known:
        begun = time.monotonic()
        await engine.send(referral(person))
        if not ended.is_set():
            engine.outcome.referrals.append(time.monotonic() - begun)
    done.set()


async def _send_feed(
    engine: Engine,
    count: int,
    known: Sequence[Inpatient],
    strangers: Sequence[Inpatient],
    stop: asyncio.Event,
    ended: asyncio.Event,
) -> None:
    begun = time.monotonic()
    for start in range(0, count, WINDOW):
        if stop.is_set():
            break
        numbers = range(start, min(start + WINDOW, count))
        await engine.send(*(movement(_about(number, known, strangers), number) for number in numbers))
        engine.outcome.feed_sent += len(numbers)
    engine.outcome.feed_seconds = time.monotonic() - begun
    ended.set()


def _about(number: int, known: Sequence[Inpatient], strangers: Sequence[Inpatient]) -> Inpatient:
    is_known = number % KNOWN_EVERY == 0
    return known[number // KNOWN_EVERY % len(known)] if is_known else strangers[number]


def main() -> None:
    """Send the backlog. Exit with 1 if a referral was not answered while the feed ran, or anything was not accepted."""
    reader = argparse.ArgumentParser(prog="python -m bench.backlog", description=__doc__)
    reader.add_argument("--count", type=int, default=10_000, help="messages in all (at most 50,000)")
    count = min(reader.parse_args().count, 50_000)
    referrals = max(1, count // 100)
    environment = {"LIGHTBULB_LOG_LEVEL": "WARNING", "LIGHTBULB_MESSAGES_PER_SECOND": "100000"}
    with tempfile.TemporaryDirectory(prefix="lightbulb-backlog-") as work:
        running = installation.start(Plan(Path(work) / "data", ephemeral=True, environment=environment))
        try:
            outcome = asyncio.run(play(running.addresses, count - referrals, referrals))
        finally:
            running.stop()
    waited = sorted(outcome.referrals)
    console.print(f"feed: {outcome.feed_sent} ADT in {outcome.feed_seconds:.1f} s, {outcome.rate:,.0f} rows/s")
    console.print(f"referrals answered while it ran: {len(waited)} of {referrals}")
    if waited:
        console.print(
            f"their answer took {waited[len(waited) // 2] * 1e3:.0f} ms (median), {waited[-1] * 1e3:.0f} ms at most"
        )
    console.print(f"not accepted: {outcome.not_accepted}")
    raise SystemExit(0 if len(waited) == referrals and not outcome.not_accepted else 1)


if __name__ == "__main__":
    main()
