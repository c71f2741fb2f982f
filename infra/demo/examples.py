"""The examples, each with its reviewed `<name>.expected.yaml`: who sends what, and what it must end in."""

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
    """An expected file is wrong; the text says which, where and how."""


class VisitAction(StrictInput):
    """One thing that the simulated hub does after its visit."""

    service: ServiceCode
    action: ShortText
    provider: ShortText = "Lightbulb"


class ExampleStep(StrictInput):
    """One file that is sent, and the answer that its sender must get."""

    send: ShortText = Field(description="File beside the expected file")
    by: PartnerId = Field(description="Partner who sends it")
    answer: Literal["accepted", "duplicate", "in part", "conflict", "refused", "not allowed"] = Field(
        description="What the answer must say; 'in part' where rows of a CSV were refused"
    )
    said: Code | None = Field(None, description="How it must be said: an HTTP status, or HL7's AA, CA, AE")
    fault: Code | None = Field(None, description="Kind of fault that a refusal must name; for HL7 the error code")
    place: ShortText | None = Field(None, description="Where a refusal must say that the fault is")
    rows: dict[ShortText, int] = Field({}, description="CSV: how many rows had which outcome; any other had none")
    columns: dict[Code, ShortText] = Field(
        {}, description="CSV: by reference of a refused row, the column that is at fault"
    )
    after: ShortText | None = Field(None, description="Sent only once the sender of a file (`of`) has heard this of it")
    of: ShortText | None = Field(None, description="Which file `after` speaks of; the first where it is not said")


class ExpectedOutcome(StrictInput):
    """What one referral must end in, as hubs and recipients see it."""

    of: ShortText = Field(description="The file that made the referral; of a CSV file#reference")
    hub: HubId | None = Field(None, description="The hub whose own system holds it; none where no hub may hear of it")
    follow_on: HubId | None = Field(None, description="The hub, or authority elsewhere, that gets it after the stay")
    hubs: tuple[HubId, ...] | None = Field(
        None, description="All hubs that may ever hear of it, where that is to be exact"
    )
    stay: tuple[HubId, ...] = Field((), description="Hubs that are told of a stay in hospital; no other may be")
    why: tuple[RoutingReason, ...] = Field((), description="Why that hub")
    case: CaseStatus = Field(description="Status of its case")
    hub_hears: tuple[ShortText, ...] = Field((), description="Events that the hub hears, in this order, others between")
    grant: dict[ShortText, Code] = Field(
        {}, description="What the hub reads of a grant: category, and date of each stage"
    )
    provisional: bool = Field(False, description="True where the hub is told to check who it is first")
    heard: dict[PartnerId, tuple[ShortText, ...]] = Field(
        {}, description="By partner: all that it hears, in order; 'status accepted' is a status-only message"
    )
    done: dict[PartnerId, tuple[ShortText, ...]] = Field(
        {},
        description="By partner: what it hears was done, each action (or service, where only that is told), any order",
    )

    @property
    def file(self) -> str:
        """The file, without the row."""
        return self.of.partition("#")[0]


class Expected(StrictInput):
    """An expected file."""

    who: ShortText
    shows: ShortText = Field(description="What the example is there for")
    order: int = Field(100, description="Where it stands in the demo's table; among equals by name")
    fold: ShortText | None = Field(
        None, description="In the demo's table one line stands for all examples with these words"
    )
    cases: int | None = Field(None, description="How many cases the referrals of `ends` make")
    visits: dict[str, tuple[VisitAction, ...]] = Field(
        {}, description="By file: what the simulated hub's visit leads to"
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
    """Every example, in the order that its file gives. Raises ExampleFault with every fault."""
    examples: list[Example] = []
    errors: list[str] = []
    for file in sorted(folder.glob("*.expected.yaml")):
        try:
            expected = yaml_files.load(file, Expected).value
        except yaml_files.ConfigError as error:
            errors.append(str(error))
            continue
        examples.append(Example(name=file.name.removesuffix(".expected.yaml"), folder=folder, expected=expected))
        errors += [f"{file}: there is no file {name}" for name in _missing(examples[-1])]
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
    """What each hub's visits lead to, by the sender's referral id: the notes that simulated hubs are given."""
    return {
        referral_id(example, name): [act.model_dump(mode="json") for act in acts]
        for example in examples
        for name, acts in example.expected.visits.items()
    }


def referral_id(example: Example, name: str) -> str:
    """The sender's own id of a referral: ServiceRequest.id, a form's reference, RF1-6, a CSV row's reference (file#reference)."""
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
    """What a reader may call the file."""
    by_name = {".hl7": "HL7", ".csv": "CSV"}.get(file.suffix)
    return by_name or ("FHIR" if '"resourceType"' in file.read_text(errors="replace")[:500] else "form")
