"""The response to every file under examples/ matches its expectation: by `lightbulb send`, over MLLP and over HTTP."""

import asyncio

import pytest

from infra.demo import examples
from infra.demo.examples import Example, ExampleStep, format_of
from infra.demo.observations import answer_differences
from infra.partner_simulators import send
from tests.end_to_end.conftest import Walk
from tests.end_to_end.pages import examples_sent

EVERY = examples.load()
IN_THE_PAGES = examples_sent()
"""Blocks of the documentation, which run before these tests, may have sent these to the same installation."""


async def answered(walk: Walk, example: Example, step: ExampleStep, *, http: bool) -> list[str]:
    file, addresses = example.file(step.send), walk.running.addresses
    [answer] = await send.send([file], step.by, addresses, http=http, dry_run=step.dry_run)
    if step.send in IN_THE_PAGES:
        return (
            [] if answer.accepted == (step.answer in ("accepted", "duplicate")) else [f"{step.send} {answer.outcome}"]
        )
    return list(answer_differences(step, answer))


async def in_order(walk: Walk, example: Example, *, http: bool) -> list[str]:
    """The steps of an example one after the other; what they wait for in the demo changes no answer."""
    steps = [step for step in example.expected.steps if not http or format_of(example.file(step.send)) == "HL7"]
    return [line for step in steps for line in await answered(walk, example, step, http=http)]


@pytest.mark.parametrize("over", ["mllp", "http"])
async def test_the_response_to_every_file_matches_its_expectation(walk: Walk, over: str) -> None:
    """A message that was sent over MLLP is repeated over HTTP and gets the same response."""
    every = await asyncio.gather(*(in_order(walk, example, http=over == "http") for example in EVERY))
    assert [line for lines in every for line in lines] == []
