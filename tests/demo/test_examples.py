"""The examples are complete: every file has its expectation, and all persons are synthetic."""

import json
import re
from datetime import date
from pathlib import Path

import pytest

from infra.database import postcodes
from infra.demo import examples
from infra.demo.examples import EXAMPLES, ExampleError
from schemas import nhs_number
from services.reference import directory, partners
from services.runtime.settings import CHECKOUT

EVERY = examples.load()
DIRECTORY = CHECKOUT / "infra" / "reference_data"
REFERRED_ON = date(2026, 11, 16)
FILES = sorted(file for file in EXAMPLES.iterdir() if file.suffix in (".json", ".hl7", ".csv"))
NUMBERS = {
    ".json": r'(?:Id/nhs-number",\s+"value|"nhs_number)": "([0-9 ]+)"',
    ".hl7": r"[|~]([0-9]{10})\^\^\^[^|~]*\^NHS?\b",
    ".csv": r"(?<![0-9])([0-9]{3} ?[0-9]{3} ?[0-9]{4})(?![0-9])",
}


def text_of(file: Path) -> str:
    """Councils write UTF-8 and Windows-1252; what is looked for here is plain in both."""
    return file.read_bytes().decode("latin-1")


def numbers_of(file: Path) -> list[str]:
    """Return the NHS numbers in an example."""
    return re.findall(NUMBERS[file.suffix], text_of(file))


def test_every_message_has_an_expected_file() -> None:
    sent = {step.send for example in EVERY for step in example.expected.steps}
    assert sent == {file.name for file in FILES}


def test_every_example_is_in_the_readme() -> None:
    readme = (EXAMPLES / "README.md").read_text()
    assert [example.name for example in EVERY if f"`{example.name}`" not in readme] == []


def test_every_sending_partner_has_a_valid_and_an_invalid_file() -> None:
    """All hubs send one form alike: one of them is enough."""
    every = partners.load(DIRECTORY, None)
    kinds = {partner.id: "hub" if partner.kind == "hub" else partner.id for partner in every if partner.formats}
    steps = [step for example in EVERY for step in example.expected.steps]
    good = {kinds[step.by] for step in steps if step.answer == "accepted"}
    bad = {kinds[step.by] for step in steps if step.answer in ("refused", "in part", "not allowed")}
    assert good == bad == set(kinds.values())


@pytest.mark.parametrize("file", [file for file in FILES if numbers_of(file)], ids=lambda file: file.name)
def test_every_nhs_number_is_synthetic(file: Path) -> None:
    numbers = numbers_of(file)
    assert all(number.startswith("999") for number in numbers)
    failing = [number for number in numbers if not nhs_number.is_valid(number.replace(" ", ""))]
    assert not failing or "bad" in file.stem or "failing" in file.stem


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_telephone_number_is_reserved_for_fiction(file: Path) -> None:
    numbers = re.findall(r"(?<![0-9a-f-])0[1-9][0-9]{2,3} [0-9]{3} ?[0-9]{3,4}(?![0-9])", text_of(file))
    assert [number for number in numbers if not re.match(r"0116 496 0|01632 960|07700 900", number)] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_is_small(file: Path) -> None:
    assert file.stat().st_size < 40_000


def test_postcodes_belong_to_the_expected_hub() -> None:
    hubs = directory.load(DIRECTORY)
    districts = dict(postcodes.rows(frozenset(hubs.districts), "L"))
    placed = [
        (example.folder / end.of, end.hub)
        for example in EVERY
        for end in example.expected.ends
        if list(end.why) == ["community-postcode"] and end.of.endswith(".json")
    ]
    wrong = [
        file.name for file, hub in placed if hubs.hub_for_district(districts[_postcode(file)], REFERRED_ON).id != hub
    ]
    assert placed
    assert wrong == []


def _postcode(file: Path) -> str:
    found = re.search(r'"post(?:alC|c)ode": "([^"]+)"', file.read_text())
    assert found
    return found[1].replace(" ", "")


def test_notes_for_simulated_hubs_are_found_by_data_that_a_hub_receives() -> None:
    notes = examples.visits(EVERY)
    assert len(notes["FCP-2026-11834"]) == 6
    mrs_v = json.loads((EXAMPLES / "mrs-v.json").read_text())
    ids = [entry["resource"].get("id") for entry in mrs_v["entry"]]
    assert any(len(acts) == 8 for referral_id, acts in notes.items() if referral_id in ids)


def test_a_fault_in_an_expected_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "wrong.expected.yaml").write_text("who: W\nshows: x\nsteps: [{send: w.json, by: w, answer: perhaps}]\n")
    with pytest.raises(ExampleError, match=r"wrong\.expected\.yaml:3: steps\.entry 1\.answer"):
        examples.load(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "w.expected.yaml").write_text("who: W\nshows: x\nsteps: [{send: w.json, by: ww, answer: accepted}]\n")
    with pytest.raises(ExampleError, match=r"file w\.json does not exist"):
        examples.load(tmp_path)


def test_every_sender_and_recipient_is_a_partner() -> None:
    known = {partner.id for partner in partners.load(DIRECTORY, None)}
    named = {step.by for example in EVERY for step in example.expected.steps}
    named |= {partner for example in EVERY for end in example.expected.ends for partner in (*end.heard, *end.done)}
    assert named <= known
