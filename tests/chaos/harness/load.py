"""Send the load that comes with a fault: rows of a council's file, or messages of a practice. It is checked as a plan's messages are."""

import asyncio
import dataclasses
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from tests.builders.bars import a_bars_message
from tests.chaos.harness.council_rows import Row, council_file
from tests.chaos.harness.history import Message
from tests.chaos.harness.plan import POSTCODES
from tests.chaos.harness.senders import Identity, Senders
from tests.chaos.harness.workload import COUNCILS

FIRST_OF_LOAD = 1_000
"""Persons of a load have numbers from this one on; the persons of a plan, and of the rows beside theirs, have lower ones."""

POSTCODE_OF = dict(zip(COUNCILS, POSTCODES, strict=True))
"""A postcode in the district of each council; the hub of a district has the council's name."""

PATIENCE_SECONDS = 60.0
SENDERS_AT_ONCE = 16
HOT_NUMBER = 200
"""The NHS numbers of hot keys come after those of the plan's persons and of the rows beside theirs."""

DISTINCT_NUMBERS = 50


@dataclass
class Load:
    """Sends load with the ids of a run. Its messages are recorded like rows beside those of a plan, which have no state to compare (I8)."""

    identity: Identity
    senders: Senders

    def reference(self, *about: object) -> str:
        """Return the sender's reference of a referral of this load."""
        return self.identity.id("load", *about)

    def hot_number(self, aim: int) -> str:
        """Return the one NHS number of a hot key."""
        return self.identity.nhs_number(HOT_NUMBER + aim % DISTINCT_NUMBERS)

    async def send_rows(self, council: str, rows: Sequence[Row], *about: object) -> None:
        """Send a council's file with these rows until each is answered."""
        sent = self._message(f"council-{council}", f"/councils/{council}/referrals", about)
        others = tuple((FIRST_OF_LOAD + at, row.reference) for at, row in enumerate(rows[1:], 1))
        body = council_file(council, rows)
        await self.senders.send(dataclasses.replace(sent, body=body, row=rows[0].reference, other_rows=others))

    def answered(self, rows: Sequence[Row]) -> list[str]:
        """Return our references of the rows that were answered with one, in their order."""
        answers = {answer.message.row: answer.reference for answer in self.senders.history.answers}
        return [reference for row in rows if (reference := answers.get(row.reference))]

    async def send_bars(self, practice: str, ods: str, count: int, *about: object) -> None:
        """Send referrals of a practice, each for another person without an NHS number."""
        turn = asyncio.Semaphore(SENDERS_AT_ONCE)

        async def send(at: int) -> None:
            async with turn:
                sent = self._message(practice, "/fhir/$process-message", (*about, at))
                await self.senders.send(
                    dataclasses.replace(sent, person=FIRST_OF_LOAD + at, body=self._bars(sent, ods))
                )

        await asyncio.gather(*map(send, range(count)))

    def _bars(self, sent: Message, ods: str) -> bytes:
        name = sent.correlation_id
        return json.dumps(
            a_bars_message(
                seed=name,
                referral_id=name,
                bundle_id=self.reference(name, "bundle"),
                nhs_number=None,
                ods=ods,
                needs={"minor-adaptations": "grab rails by the back door"},
            )
        ).encode()

    def _message(self, partner: str, path: str, about: Sequence[object]) -> Message:
        return Message(
            person=FIRST_OF_LOAD,
            referral=0,
            place=0,
            kind="beside",
            partner=partner,
            path=path,
            request_id=self.reference(*about, "request"),
            correlation_id=self.reference(*about, "correlation"),
            body=b"",
            mark=self.reference(*about, "mark").encode(),
        )

    async def until(self, is_done: Callable[[], Awaitable[bool]], what: str, seconds: float = PATIENCE_SECONDS) -> bool:
        """Wait for an effect; note that it was not seen (I7) if it takes longer."""
        end = time.monotonic() + seconds
        while not await is_done():
            if time.monotonic() > end:
                self.senders.history.notes.append(f"no effect seen of {what} after {seconds:.0f} s")
                return False
            await asyncio.sleep(0.2)
        return True


def many_persons(load: Load, council: str, count: int, *about: object) -> list[Row]:
    """Return rows of as many persons without an NHS number, all in the council's district."""
    return [Row(load.reference(*about, at), POSTCODE_OF[council], "of the load", at) for at in range(count)]


def one_number(load: Load, number: str, count: int, *about: object) -> list[Row]:
    """Return rows of Hinckley and Bosworth with one NHS number: every second is of one person, the others of as many persons."""
    return [
        Row(
            reference=load.reference(*about, at),
            postcode=POSTCODE_OF["hinckley-bosworth"],
            mark="of the load",
            need=at,
            number=number,
            other={}
            if at % 2 == 0
            else {"SURNAME": "HOT" + _letters(at), "BIRTH": f"{1 + at % 28:02}-05-19{20 + at % 60}"},
        )
        for at in range(count)
    ]


def _letters(number: int) -> str:
    return "".join(chr(ord("A") + int(digit)) for digit in f"{number:05}")
