"""Referrals for the benchmark: copies of one message of 6 KB with different ids and NHS numbers, and different people if wanted."""

import json
import random
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = Path(__file__).with_name("referral.json")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
"""Every id of the template is replaced in each message."""


@dataclass(frozen=True, slots=True)
class BenchmarkMessage:
    """A BaRS message as a practice's system sends it."""

    request_id: str
    correlation_id: str
    body: bytes


def messages(count: int, run: str, *, varied: bool = False) -> Iterator[BenchmarkMessage]:
    """Yield `count` referrals of different persons; ids differ between values of `run`.

    `varied`: names, birth dates, addresses and texts differ, too, so that rows compress as those of real people would.
    """
    template = json.dumps(json.loads(TEMPLATE.read_text()), separators=(",", ":"))
    number = _number_in(template)
    parts = re.split(f"({UUID.pattern})", template)
    ids = sorted({part for part in parts if UUID.fullmatch(part)})
    for at, nhs_number in enumerate(_numbers(count, run)):
        fresh = {each: str(uuid.uuid5(uuid.UUID(each), f"{run} {at}")) for each in ids}
        body = "".join(fresh.get(part, part) for part in parts).replace(number, nhs_number)
        for value, other in _of_another_person(random.Random(f"{run} {at}")) if varied else ():  # noqa: S311 - no secret
            body = body.replace(value, other)
        yield BenchmarkMessage(_id(run, at, "request"), _id(run, at, "correlation"), body.encode())


FAMILIES = ("Ali", "Begum", "Clarke", "Kaur", "Mistry", "Parmar", "Shaw", "Ward", "Wood")
GIVEN = ("Amina", "Barbara", "Harpreet", "Joan", "Margaret", "Priya", "Sheila", "Sunita", "Susan")
STREETS = (
    "Castle Street",
    "Church Lane",
    "Forest Road",
    "High Street",
    "Main Street",
    "Mill Lane",
    "Park Avenue",
    "Station Road",
)
SENTENCES = (
    "Lives in a terraced house whose only toilet is upstairs.",
    "Two falls on the stairs in the last three months, one with attendance at the emergency department.",
    "Has difficulty with the bath and no longer washes without help.",
    "The front step is uneven and has no rail; the patient has stopped leaving the house.",
    "The boiler was condemned in October; one electric heater warms the living room.",
    "Damp and mould in the bedroom, with worsening of chronic obstructive pulmonary disease.",
    "A daughter visits twice a week and is worried about the nights.",
    "Discharged last week after a fractured neck of femur, mobile with a frame indoors.",
    "Privately rented; the landlord was informed and has sent no answer.",
    "Please assess for rails, a stair lift or a level-access shower.",
    "Registered partially sighted and would like a visit to be arranged by telephone.",
    "Memory is declining and the cooker has been left on more than once.",
)


def _of_another_person(chosen: random.Random) -> Iterator[tuple[str, str]]:
    """Yield values of the template's person, each with that of another person."""
    yield "Updale", chosen.choice(FAMILIES)
    yield "Una", chosen.choice(GIVEN)
    yield "1949-05-17", f"{chosen.randrange(1930, 1965)}-{chosen.randrange(1, 13):02}-{chosen.randrange(1, 29):02}"
    yield "01632 960041", f"01632 960{chosen.randrange(1000):03}"
    yield "9 Priory Yard", f"{chosen.randrange(1, 240)} {chosen.choice(STREETS)}"
    yield "Fell in the bathroom, no fracture.", " ".join(chosen.sample(SENTENCES, chosen.randrange(1, 11)))
    yield "Cannot get in and out of the bath.", chosen.choice(SENTENCES)


def _id(run: str, at: int, what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{run} {at} {what}"))


def _number_in(template: str) -> str:
    match = re.search(r"\b999\d{7}\b", template)
    assert match, "the template must contain a synthetic NHS number"
    return match[0]


def _numbers(count: int, run: str) -> Iterator[str]:
    """Yield synthetic NHS numbers that begin with 999 and have a valid check digit (modulus 11)."""
    start = int(uuid.uuid5(uuid.NAMESPACE_OID, run).int % 300_000)
    produced = 0
    for digits in range(start, 999_999):
        if produced == count:
            return
        first_nine = f"999{digits:06d}"
        check = _check_digit(first_nine)
        if check is not None:
            produced += 1
            yield f"{first_nine}{check}"


def _check_digit(first_nine: str) -> int | None:
    remainder = 11 - sum(int(digit) * (10 - at) for at, digit in enumerate(first_nine)) % 11
    return {11: 0, 10: None}.get(remainder, remainder)
