"""The examples, each with its reviewed `<name>.expected.yaml`: who sends what, and what it must end in."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError

from schemas.case import CaseStatus, RoutingReason
from schemas.model import HubId, Line, PartnerId, Written
from schemas.referral import Service
from services.messaging.settings import CHECKOUT

EXAMPLES = CHECKOUT / "examples"


class ExampleFault(Exception):
    """An expected file is wrong; the text says which, where and how."""


class Act(Written):
    """One thing that the simulated hub does after its visit."""

    service: Service
    action: Line
    provider: Line = "Lightbulb"


class Step(Written):
    """One file that is sent, and the answer that its sender must get."""

    send: Line = Field(description="File beside the expected file")
    by: PartnerId = Field(description="Partner who sends it")
    answer: Literal["accepted", "duplicate", "conflict", "refused"] = Field(description="What the answer must say")
    fault: Line | None = Field(None, description="Kind of fault that a refusal must name")
    after: Line | None = Field(None, description="Sent only once the sender has heard this of the first file")


class End(Written):
    """What one referral must end in, as hubs and recipients see it."""

    of: Line = Field(description="The file that made the referral")
    hub: HubId | None = Field(None, description="The hub whose own system holds it; none where no hub may hear of it")
    why: tuple[RoutingReason, ...] = Field((), description="Why that hub")
    case: CaseStatus = Field(description="Status of its case")
    hub_hears: tuple[Line, ...] = Field((), description="Events that the hub hears, in this order, others between")
    provisional: bool = Field(False, description="True where the hub is told to check who it is first")
    heard: dict[PartnerId, tuple[Line, ...]] = Field(
        {}, description="By partner: all that it hears, in order; 'status accepted' is a status-only message"
    )
    done: dict[PartnerId, tuple[Line, ...]] = Field(
        {},
        description="By partner: what it hears was done, each action (or service, where only that is told), any order",
    )


class Expected(Written):
    """An expected file."""

    who: Line
    shows: Line = Field(description="What the example is there for")
    order: int = Field(100, description="Where it stands in the demo's table; among equals by name")
    visits: dict[str, tuple[Act, ...]] = Field({}, description="By file: what the simulated hub's visit leads to")
    steps: tuple[Step, ...] = Field(min_length=1)
    ends: tuple[End, ...] = ()


class Example(Written):
    """An example with its name and folder."""

    name: str
    folder: Path
    expected: Expected

    def file(self, name: str) -> Path:
        return self.folder / name


def load(folder: Path = EXAMPLES) -> list[Example]:
    """Every example, in the order that its file gives. Raises ExampleFault with every fault."""
    files = sorted(folder.glob("*.expected.yaml"))
    faults: list[str] = []
    found: list[Example] = []
    for file in files:
        try:
            expected = Expected.model_validate(yaml.safe_load(file.read_text()))
        except (ValidationError, yaml.YAMLError) as error:
            faults.append(f"{file}: {error}")
            continue
        found.append(Example(name=file.name.removesuffix(".expected.yaml"), folder=folder, expected=expected))
        faults += [f"{file}: there is no file {name}" for name in _missing(found[-1])]
    if faults or not found:
        raise ExampleFault("\n".join(faults) or f"no example in {folder}")
    return sorted(found, key=lambda example: (example.expected.order, example.name))


def _missing(example: Example) -> Iterator[str]:
    expected = example.expected
    sent = {step.send for step in expected.steps}
    yield from (name for name in sent if not example.file(name).exists())
    yield from ({end.of for end in expected.ends} | expected.visits.keys()) - sent


def visits(examples: list[Example]) -> dict[str, list[dict[str, str]]]:
    """What each hub's visits lead to, by the sender's referral id: the notes that simulated hubs are given."""
    return {
        referral_id(example.file(file)): [act.model_dump(mode="json") for act in acts]
        for example in examples
        for file, acts in example.expected.visits.items()
    }


def referral_id(file: Path) -> str:
    """The sender's own id of the referral in a file: ServiceRequest.id, or a form's reference."""
    content = json.loads(file.read_text())
    for entry in content.get("entry", []):
        if entry["resource"]["resourceType"] == "ServiceRequest":
            return str(entry["resource"]["id"])
    return str(content["reference"])


def format_of(file: Path) -> str:
    """What a reader may call the file."""
    text = file.read_text(errors="replace")
    return "GP FHIR" if '"resourceType"' in text[:500] else "form"
