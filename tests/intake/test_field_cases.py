"""The field cases about councils' files and forms through the whole of intake; the hubs and feedback are seen by `make field`."""

import json

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.field import expectation, http_bodies, scripted
from tests.field.expectation import Answer, Seen
from tests.field.fresh import Fresh
from tests.field.scripted import Script
from tests.field.variants import play
from tests.intake.running import InProcess, kind_of, published

SCRIPTS = [script for kind in ("csv", "form") for script in scripted.scripts(kind)]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
async def test_a_file_or_form_as_it_is_really_written_ends_as_it_should(
    intake: InProcess, engine: AsyncEngine, script: Script
) -> None:
    seen = await played(intake, engine, script)
    right = [{kind: one[kind] for kind in one if kind in play.IN_PROCESS} for one in scripted.expected(script)]
    problem = expectation.wrong(right, seen)
    assert not problem, problem


async def played(intake: InProcess, engine: AsyncEngine, script: Script) -> Seen:
    fresh, answers = Fresh(script.ids), list[Answer]()
    for file, body, path in zip(script.files, script.bodies, script.paths, strict=True):
        sent = http_bodies.request(file, fresh.bytes(body), path, script.media_type)
        reply = await intake.call("POST", sent.path, sent.body, script.sender, {"content-type": sent.media_type})
        answers.append(Answer(reply.status, fresh.back(reply.body.decode())))
    records = await published(engine)
    events = [(kind_of(one), json.loads(fresh.back(one.message.value.decode()))) for one in records]
    return Seen(answers, events)
