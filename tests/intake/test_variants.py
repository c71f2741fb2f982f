"""Variants of every kind of message, file and form that senders were seen to get wrong, through the whole of intake.

More of those that a translator decides alone: tests/contract/translators. On an installation: `make field ARGS="--variants 20"`.
"""

import asyncio
import json
import re
from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.field.expectation import Answer, Seen
from tests.field.variants import KINDS, Sent, Variant, play, with_each_option
from tests.intake.running import InProcess, kind_of, published

SEED, AT_LEAST = 20_261_129, 8


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_every_variant_of_a_kind_ends_as_it_should(intake: InProcess, engine: AsyncEngine, kind: str) -> None:
    played = with_each_option(kind, SEED, datetime.now(UTC), at_least=AT_LEAST)
    answers = await asyncio.gather(*(answered(intake, one) for one in played))
    records = [(kind_of(one), json.loads(one.message.value)) for one in await published(engine)]
    known = [(name, data, json.dumps(data)) for name, data in records]
    seen = [Seen(given, play.about(one, given, known)) for one, given in zip(played, answers, strict=True)]
    verdicts = [play.problem(one, what, play.IN_PROCESS) for one, what in zip(played, seen, strict=True)]
    assert len(verdicts) >= AT_LEAST
    wrong = [one for one in verdicts if one]
    assert not wrong, "\n".join(wrong)


async def answered(intake: InProcess, variant: Variant) -> list[Answer]:
    answers: list[Answer] = []
    for sent in variant.sent:
        body = sent.to(answers[0].reference if answers else None)
        answers.append(await (fhir(intake, sent, body) if sent.path else hl7v2(intake, sent)))
    return answers


async def fhir(intake: InProcess, sent: Sent, body: bytes) -> Answer:
    headers = {"content-type": "application/fhir+json", **{k: v for k, v in sent.headers.items() if v is not None}}
    reply = await intake.call("POST", sent.path, body, sent.sender, headers)
    while reply.status in (429, 503):  # so many files at once have to wait
        await asyncio.sleep(0.05)
        reply = await intake.call("POST", sent.path, body, sent.sender, headers)
    return Answer(reply.status, reply.body.decode(), {k.lower(): v for k, v in reply.headers.items()})


async def hl7v2(intake: InProcess, sent: Sent) -> Answer:
    """Send over HTTP what is meant for MLLP: the same message, the same acknowledgement."""
    reply = await intake.call("POST", "/hl7v2", sent.body, sent.sender, {"content-type": "application/hl7-v2"})
    text = reply.body.decode(errors="replace").replace("\r", "\n")
    return Answer(" ".join(re.findall(r"^MSA\|(\w\w)", text, re.M)), text)
