"""Simulate the partners' systems: send each message until it is answered, and record the answer."""

import asyncio
import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from infra.partner_simulators import mllp_client
from tests.chaos.harness.history import Answer, History, Message
from tests.chaos.harness.messages import Identity, message

__all__ = ["Identity", "Senders", "message"]

REFERENCE = re.compile(r"LB(?:-[0-9A-Z]{4}){3}")
RETRY_SECONDS = 0.4
NOT_STORED = "could not be stored ("
"""What intake says of a message that its database has refused for its data."""
MEDIA_TYPES = {
    "fhir": "application/fhir+json",
    "forms": "application/json",
    "councils": "text/csv",
    "hl7v2": "application/hl7-v2",
}
"""Media types by the first part of a path."""

Reply = tuple[bool | None, int, str, str]
"""Whether the receiver has accepted the message (None: unknown, send again), status, code and text of the answer."""


@dataclass
class Senders:
    """The partners' systems. A message is sent again, byte for byte, until the answer shows whether it was accepted.

    `mllp`: the port of each ward.
    """

    url: str
    mllp: Mapping[str, int]
    tokens: Mapping[str, str]
    history: History
    session: aiohttp.ClientSession

    async def send(self, sent: Message) -> None:
        while True:
            ours, status, code, text = await (self._post(sent) if sent.path else self._exchange(sent))
            self.history.attempts += 1
            if ours is not None:
                break
            self.history.unanswered += 1
            await asyncio.sleep(RETRY_SECONDS)
        if NOT_STORED in text:
            self.history.held_against_senders.append(f"a {sent.kind} of person {sent.person} ({sent.partner})")
        self.history.answers += _other_rows(sent, text)
        answer = _entry(text, sent.row) if sent.row else text
        found = REFERENCE.search(answer)
        self.history.answers.append(Answer(sent, ours, status, code, found[0] if found else None))

    async def _post(self, sent: Message) -> Reply:
        headers = {
            "Authorization": f"Bearer {self.tokens[sent.partner]}",
            "Content-Type": MEDIA_TYPES[sent.path.split("/")[1]],
            "X-Request-Id": sent.request_id,
            "X-Correlation-Id": sent.correlation_id,
        }
        try:
            async with self.session.post(self.url + sent.path, data=sent.body, headers=headers) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None, 0, "", ""
        if answer.status in (408, 429) or answer.status >= 500:
            return None, answer.status, "", ""
        if sent.row:
            return _of_row(answer.status, text, sent)
        return _of_hl7(answer.status, [text]) if sent.path == "/hl7v2" else _of_message(answer.status, text)

    async def _exchange(self, sent: Message) -> Reply:
        """Send over MLLP. Without an answer the message is not acknowledged."""
        try:
            frames = await mllp_client.exchange("127.0.0.1", self.mllp[sent.partner], sent.body, 12)
        except (OSError, TimeoutError):
            return None, 0, "", ""
        return _of_hl7(200, [frame.decode() for frame in frames])


def _of_hl7(status: int, messages: list[str]) -> Reply:
    """Return the last acknowledgement among the messages."""
    found = [line.split("|") for one in messages for line in one.split("\r") if line.startswith("MSA")]
    if not found:
        return None, status, "", ""
    return found[-1][1] in ("AA", "CA"), status, found[-1][1], messages[-1]


def _of_message(status: int, text: str) -> Reply:
    """Return an acknowledgement for 2xx, and for 409 duplicate: an earlier attempt was accepted."""
    answer = json.loads(text)
    issue = answer.get("issue", [{}])[0].get("code", "") if answer.get("resourceType") == "OperationOutcome" else ""
    return (
        status < 300 or (status == 409 and issue == "duplicate"),
        status,
        issue or str(answer.get("status", "")),
        text,
    )


# ---- files ------------------------------------------------------------------------------------------------------------

TAKEN = ("received", "updated", "already-held", "superseded", "cancelled", "not-applied")


def _of_row(status: int, text: str, sent: Message) -> Reply:
    """Return the outcome of the row that is meant. If any row was not processed, the whole file is sent again."""
    try:
        entries = json.loads(text)["rows"]
        [outcome, *_] = [one["outcome"] for one in entries if one["reference_given"] == sent.row]
    except (ValueError, KeyError):
        return (None if status < 300 else False), status, "no report", ""
    if any(one["outcome"] == "not-processed" for one in entries):
        return None, status, "", ""
    return outcome in TAKEN, status, outcome, text


def _entry(text: str, row: str) -> str:
    """Return the report's line of this row."""
    return next((line for line in text.splitlines() if row in line), "")


def _other_rows(sent: Message, text: str) -> list[Answer]:
    """Return the answers of the other rows in the same file."""
    entries = json.loads(text)["rows"] if sent.other_rows and text else []
    by_reference = {one["reference_given"]: one for one in entries}
    return [
        Answer(
            dataclasses.replace(sent, person=number, referral=0, kind="beside", row=row, other_rows=()),
            by_reference[row]["outcome"] in TAKEN,
            200,
            by_reference[row]["outcome"],
            by_reference[row]["reference"],
        )
        for number, row in sent.other_rows
        if row in by_reference
    ]
