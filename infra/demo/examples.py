"""The examples, each with its reviewed `<name>.expected.yaml`: the messages sent, and the expected outcome."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from schemas.case import CaseStatus, RoutingReason
from schemas.model import HubId, PartnerId, ShortText, StrictInput
from schemas.referral import ServiceCode
from services.reference import yaml_files
from services.reference.yaml_files import Code
from services.runtime.settings import CHECKOUT

EXAMPLES = CHECKOUT / "examples"


class ExampleError(Exception):
    """An expected file is not valid; the text gives file, place and fault."""


class VisitAction(StrictInput):
    """One action of the simulated hub after its visit."""

    service: ServiceCode
    action: ShortText
    provider: ShortText = "Lightbulb"


class ExampleStep(StrictInput):
    """One file to send, and the response that its sender must get."""

    send: ShortText = Field(description="File next to the expected file")
    by: PartnerId = Field(description="Partner that sends it")
    dry_run: bool = Field(False, description="CSV: only ask what would happen")
    answer: Literal["accepted", "duplicate", "in part", "conflict", "refused", "not allowed"] = Field(
        description="Expected outcome; 'in part' if rows of a CSV were refused"
    )
    said: Code | None = Field(None, description="Expected code: an HTTP status, or HL7's AA, CA, AE")
    fault: Code | None = Field(None, description="Kind of fault that a refusal must report; for HL7 the error code")
    place: ShortText | None = Field(None, description="Place of the fault that a refusal must report")
    rows: dict[ShortText, int] = Field({}, description="CSV: number of rows by outcome; no rows have another outcome")
    columns: dict[Code, ShortText] = Field({}, description="CSV: the faulty column, by reference of each refused row")
    warned: dict[Code, ShortText] = Field({}, description="CSV: the doubtful column, by reference of each warned row")
    after: ShortText | None = Field(
        None, description="Sent only after the sender of a file (`of`) received this feedback about it"
    )
    after_event: ShortText | None = Field(
        None, description="Sent only after a hub received this event about a file (`of`), such as task-raised"
    )
    of: ShortText | None = Field(None, description="File that `after` and `after_event` refer to; default: the first")


class ExpectedOutcome(StrictInput):
    """The expected outcome of one referral, as hubs and recipients see it."""

    of: ShortText = Field(description="File that created the referral; for a CSV file#reference")
    hub: HubId | None = Field(None, description="Hub that holds it; none if no hub may receive it")
    follow_on: HubId | None = Field(
        None, description="Hub, or authority outside the county, that gets it after the stay"
    )
    hubs: tuple[HubId, ...] | None = Field(None, description="If given: exactly the hubs that receive events about it")
    stay: tuple[HubId, ...] = Field((), description="Hubs that are informed of a stay in hospital; no other may be")
    why: tuple[RoutingReason, ...] = Field((), description="Reasons for that hub")
    case: CaseStatus = Field(description="Status of its case")
    hub_hears: tuple[ShortText, ...] = Field(
        (), description="Events that the hub receives, in this order; others may come between"
    )
    grant: dict[ShortText, Code] = Field({}, description="Grant as the hub reads it: category, and date of each stage")
    provisional: bool = Field(False, description="True if the hub must check the person's identity first")
    heard: dict[PartnerId, tuple[ShortText, ...]] = Field(
        {}, description="By partner: all feedback in order; 'status accepted' is a status-only message"
    )
    done: dict[PartnerId, tuple[ShortText, ...]] = Field(
        {},
        description="By partner: the completed actions in its feedback (or services, if only those are named), any order",
    )

    @property
    def file(self) -> str:
        """The file, without the row."""
        return self.of.partition("#")[0]


class Expected(StrictInput):
    """An expected file."""

    who: ShortText
    shows: ShortText = Field(description="Purpose of the example")
    order: int = Field(100, description="Position in the demo's table; then by name")
    fold: ShortText | None = Field(None, description="In the demo's table one row shows all examples with this text")
    cases: int | None = Field(None, description="Number of cases of the referrals in `ends`")
    visits: dict[str, tuple[VisitAction, ...]] = Field(
        {}, description="By file: the actions after the simulated hub's visit"
    )
    steps: tuple[ExampleStep, ...] = Field(min_length=1)
    ends: tuple[ExpectedOutcome, ...] = ()


class Example(StrictInput):
    """An example with its name and folder."""

    name: str
    folder: Path
    expected: Expected

    def file(self, name: str) -> Path:
        return self.folder / name


def load(folder: Path = EXAMPLES) -> list[Example]:
    """Return every example in the order of their files' `order`. Raise ExampleError with every fault."""
    examples: list[Example] = []
    errors: list[str] = []
    for file in sorted(folder.glob("*.expected.yaml")):
        try:
            expected = yaml_files.load(file, Expected).value
        except yaml_files.ConfigError as error:
            errors.append(str(error))
            continue
        examples.append(Example(name=file.name.removesuffix(".expected.yaml"), folder=folder, expected=expected))
        errors += [f"{file}: file {name} does not exist" for name in _missing(examples[-1])]
    if errors or not examples:
        raise ExampleError("\n".join(errors) or f"no example in {folder}")
    return sorted(examples, key=lambda example: (example.expected.order, example.name))


def _missing(example: Example) -> Iterator[str]:
    expected = example.expected
    sent = {step.send for step in expected.steps}
    yield from (name for name in sent if not example.file(name).exists())
    named = {end.file for end in expected.ends} | {name.partition("#")[0] for name in expected.visits}
    yield from (named | {step.of for step in expected.steps if step.of}) - sent


def visits(examples: list[Example]) -> dict[str, list[dict[str, str]]]:
    """Return the actions after each visit, by the sender's referral id: the input of the simulated hubs."""
    return {
        referral_id(example, name): [act.model_dump(mode="json") for act in acts]
        for example in examples
        for name, acts in example.expected.visits.items()
    }


def referral_id(example: Example, name: str) -> str:
    """Return the sender's id of a referral: ServiceRequest.id, RF1-6, or the reference of a form or a CSV row."""
    file, _, row = name.partition("#")
    if row:
        return row
    text = example.file(file).read_text(errors="replace")
    if format_of(example.file(file)) == "HL7":
        [rf1] = [line.split("|") for line in text.splitlines() if line.startswith("RF1|")]
        return next(part for part in rf1[6].split("^") if part)
    content = json.loads(text)
    for entry in content.get("entry", []):
        if entry["resource"]["resourceType"] == "ServiceRequest":
            return str(entry["resource"]["id"])
    return str(content["reference"])


def format_of(file: Path) -> str:
    """Return the format's name in the demo's table."""
    by_name = {".hl7": "HL7", ".csv": "CSV"}.get(file.suffix)
    return by_name or ("FHIR" if '"resourceType"' in file.read_text(errors="replace")[:500] else "form")
