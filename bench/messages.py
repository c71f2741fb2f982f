"""Referrals for the benchmark: copies of one message of 6 KB with different ids, person and postcode."""

import json
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


def messages(count: int, run: str) -> Iterator[BenchmarkMessage]:
    """Yield `count` referrals of different persons; ids differ between values of `run`."""
    template = json.dumps(json.loads(TEMPLATE.read_text()), separators=(",", ":"))
    number = _number_in(template)
    parts = re.split(f"({UUID.pattern})", template)
    ids = sorted({part for part in parts if UUID.fullmatch(part)})
    for at, nhs_number in enumerate(_numbers(count, run)):
        fresh = {each: str(uuid.uuid5(uuid.UUID(each), f"{run} {at}")) for each in ids}
        body = "".join(fresh.get(part, part) for part in parts).replace(number, nhs_number)
        yield BenchmarkMessage(_id(run, at, "request"), _id(run, at, "correlation"), body.encode())


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
