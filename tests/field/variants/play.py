"""Play variants against a running installation, and judge what was seen of them, by as much as could be seen."""

import random
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from infra.demo import letter
from tests.field import clients, expectation, installation
from tests.field.expectation import Answer, Seen
from tests.field.installation import FHIR_JSON, Installation, until
from tests.field.variants import KINDS, Variant, variants

IN_PROCESS = (
    *("answers", "answer", "rows", "faults", "warnings"),
    *("references", "event", "published", "nowhere", "mirrored"),
)
"""What a test that runs intake alone can see."""

SETTLE_SECONDS, LETTER_SECONDS = 600.0, 120.0
MAILBOX = "X26ABC2"

Record = tuple[str, Mapping[str, Any], str]
"""Type of event or name of hub, data, and the data as text."""


def problem(variant: Variant, seen: Seen, kinds: Collection[str] = tuple(expectation.KINDS)) -> str | None:
    """Return what is wrong, or None."""
    right = [{name: value for name, value in one.items() if name in kinds} for one in variant.right]
    found = expectation.wrong(right, seen)
    return f"{variant}: {found}" if found else None


def about(variant: Variant, answers: Iterable[Answer], records: Iterable[Record]) -> list[tuple[str, Any]]:
    """Return the records that hold one of the variant's ids, or a reference in its answers."""
    ids = {*variant.ids, *(answer.reference for answer in answers if answer.reference)}
    return [(name, data) for name, data, text in records if any(one in text for one in ids)]


# ---- against a running installation -------------------------------------------------------------------------------------


def in_installation(addresses: dict[str, Any], count: int, seed: int | None, words: Collection[str]) -> Iterator[str]:
    """Play `count` variants of each kind whose name holds a word; yield a line for each kind, and for each that ends wrong."""
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    yield f"variants of seed {seed}"
    names = [name for name in sorted(KINDS) if not words or any(word in name for word in words)]
    now = datetime.now(UTC)
    played = [one for name in names for one in variants(name, count, seed, now)]
    seen = _play(addresses, played)
    for name in names:
        of_kind = [(one, what) for one, what in zip(played, seen, strict=True) if one.kind == name]
        wrong = [found for one, what in of_kind if (found := problem(_with_effects(one), what))]
        yield from (f"wrong: {one}" for one in wrong)
        yield f"variants/{name}: {len(of_kind) - len(wrong)} of {len(of_kind)} hold"


def _play(addresses: dict[str, Any], played: list[Variant]) -> list[Seen]:
    hub, client = installation.of(addresses), clients.Installation(addresses)
    begin = len(hub.entries())
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(partial(_answers, hub), played))
    client.settle(SETTLE_SECONDS)
    hub.settle()
    entries = [(one.topic, one.headers, one.data, one.value.decode()) for one in hub.entries()[begin:]]
    events = [(_short(headers), data, text) for topic, headers, data, text in entries if topic == "referral.event"]
    hubs = [(topic.split(".")[1], data, text) for topic, _, data, text in entries if topic.endswith(".case")]
    at_hubs = [(hub_id, data) for hub_id, data, _ in hubs]
    return [
        Seen(
            given,
            about(one, given, events),
            expectation.of_cases(at_hubs, {d["case_id"] for _, d in about(one, given, hubs) if "referrals" in d}),
            client.feedback_of_any(given[0].reference),
            _letters(hub, one, given),
        )
        for one, given in zip(played, answers, strict=True)
    ]


def _short(headers: Mapping[str, str]) -> str:
    return headers["ce_type"].removeprefix("uk.lightbulb.").removesuffix(".v1")


def _answers(hub: Installation, variant: Variant) -> list[Answer]:
    answers: list[Answer] = []
    for sent in variant.sent:
        headers = {name: value for name, value in sent.headers.items() if value is not None}
        body = sent.to(answers[0].reference if answers else None)
        if sent.path:
            answers.append(hub.post(sent.path, body, sent.sender, {"Content-Type": FHIR_JSON, **headers}))
        else:
            answers.append(hub.hl7v2(body, sent.sender))
    return answers


def _letters(hub: Installation, variant: Variant, answers: list[Answer]) -> list[str]:
    """Return the subjects of the letters about the referral, once there is one, if it is a practice's that gets letters."""
    reference = answers[0].reference
    if reference is None or variant.sent[0].sender != "gp-brook-street":
        return []
    return list(until(lambda: _subjects(hub, reference), LETTER_SECONDS) or [])


def _subjects(hub: Installation, reference: str) -> list[str]:
    return [subject for subject, body in hub.letters(MAILBOX) if letter.read(body).reference == reference]


def _with_effects(variant: Variant) -> Variant:
    """Return the variant with what must be seen at the hub and in the feedback, too."""
    return replace(variant, right=[*map(expectation.with_effects, variant.right)])
