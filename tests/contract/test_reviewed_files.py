"""`lightbulb directory check`: one fault is planted in a copy of the reviewed files, and just its line is named."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from infra.operations import directory_check
from services.reference import lists, partners, yaml_files
from services.reference.yaml_files import ConfigFile
from services.runtime.settings import CHECKOUT

DIRECTORY = CHECKOUT / "infra" / "reference_data"


@pytest.fixture(scope="module")
def read_once() -> Callable[[Path, Any], ConfigFile[Any]]:
    """reviewed.load, which does not read again what it has read in another copy."""
    kept: dict[Any, ConfigFile[Any]] = {}
    load = yaml_files.load

    def read(file: Path, model: Any, context: Any = None) -> ConfigFile[Any]:
        key = (file.name, file.read_bytes(), model, context)
        if key not in kept:
            kept[key] = load(file, model, context)
        return replace(kept[key], file=file)

    return read


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_once: Any) -> Path:
    """A copy of the shipped files."""
    monkeypatch.setattr(yaml_files, "load", read_once)
    return shutil.copytree(DIRECTORY, tmp_path / "directory")


def found(folder: Path) -> list[tuple[str, int, str]]:
    faults = directory_check.find_issues(folder)
    return [(str(one.file.relative_to(folder)), one.line, f"{one.place}: {one.what}") for one in faults]


def test_the_shipped_files_are_valid() -> None:
    assert directory_check.find_issues(DIRECTORY) == []


DISCHARGE, SELF = "forms/hospital-discharge.yaml", "forms/self.yaml"
BLABY, HARBOROUGH = "councils/blaby.yaml", "councils/harborough.yaml"
UHL, LPT = "hl7v2/uhl.yaml", "hl7v2/lpt.yaml"
REFERS = ', formats: ["form:coordinator"]}'

BACKWARDS, FROM_2017 = "from: 2027-01-04, to: 2026-01-31", "from: 2017-10-01"

PLANTED = {
    # an unknown service
    "service in a form": (DISCHARGE, "service: rent-deposit}", "service: rent}", "needs.rent_deposit.service"),
    "service of a council": (BLABY, "MOVE: {service: housing-choices", "MOVE: {service: moving", "MOVE.service"),
    "service of a hospital": (UHL, "{service: home-safety", "{service: safety", "needs.codes.FALLS.service"),
    "need of a hospital": (UHL, "need: home-security", "need: security", "services.yaml has no service security"),
    "code that is no code of a service": ("services.yaml", "{service: hoarding", "{service: Hoarding", "Hoarding.service"),
    # a target that the referral does not have
    "target of a field": (SELF, "to: registered_practice.name", "to: practice.name", "the referral has no practice.name"),
    "who vouches in a form": (SELF, "to: person.email", "to: person.vouched_by", "who vouches for the identity is in partners.yaml"),
    "target of a column": (BLABY, "{to: enquired_on}", "{to: enquiry_on}", "columns.Enquiry Date.to"),
    "target of an observation": (UHL, "to: ready_for_transfer_on", "to: ready_on", "observations.LB-RFT.to"),
    # a code that means two things, or none
    "code of a council": (BLABY, "WH: {service", "hs: {service", "is ambiguous"),
    "code of a hospital": (UHL, "GGH: Glenfield", "lri: Glenfield", "is ambiguous"),
    "code twice": (LPT, '"09": other', '"04": other', "is a duplicate key"),
    "code that is no value": (BLABY, "X: other", "X: another", "columns.Sex.codes.X: another is not a value"),
    "choice with a word that is no type": (DISCHARGE, "type: yes-no", "type: tick", "fields.trusted_assessment.type"),
    # a rule that is never reached
    "desk after another": ("hubs.yaml", "kinds: [customer-service, council", "kinds: [customer-service, gp, council", "gp"),
    "codes that no field is read for": (LPT, "cancels:\n  read_from: [RF1-10]\n", "cancels:\n", "cancels.codes"),
    "overflow that comes back": ("hubs.yaml", "id: charnwood", "id: charnwood\n    overflow: charnwood", "leads back"),
    # one file against another
    "form without a file": ("partners.yaml", '"form:self"', '"form:self", "form:selves"', "there is no forms/selves.yaml"),
    "hospital without a file": ("partners.yaml", "formats: [bars-fhir]", "formats: [hl7v2]", "there is no hl7v2/gp-alder"),
    "council without a file": ("partners.yaml", "council: E06000016", "formats: [council-csv], council: E06000016", "no file of councils/"),
    "site of a form": (DISCHARGE, "glenfield: Glenfield", "glenfield: Glenfield\n      other: Glenfields", "no site Glenfields"),
    "site not in a form": (DISCHARGE, "choices:\n      leicester-royal-infirmary: Leicester Royal Infirmary", "choices:", "not offer the"),
    "site of a hospital": (LPT, "BMHU: Bradgate Unit", "BMHU: Bradgate Ward", "hubs.yaml has no site Bradgate Ward"),
    "district of a hospital": (LPT, "31UJ: E07000135", "31UJ: E07000999", "no hub and no authority has E07000999"),
    "stay told by another": ("partners.yaml", '"form:customer-service"', '"form:customer-service", "form:hospital-discharge"', "stays"),
    "hospital team that refers": ("partners.yaml", "hub: hospital-housing}", f"hub: hospital-housing{REFERS}", "disclose a stay"),
    "restricted team that refers": ("partners.yaml", "-bradgate}", f"-bradgate{REFERS}", "disclose a stay"),
    "desk for nobody": ("hubs.yaml", "partners: [first-contact]", "partners: [first-contacts]", "first-contacts"),
    "hub that is none": ("partners.yaml", "hub: hospital-housing}", "hub: hospital-house}", "hubs.yaml has no hub"),
    "council of no district": ("partners.yaml", "council: E06000016}", "council: E06000099}", "E06000099"),
    # what a form says of itself
    "field that is none": (SELF, "requires: [helper_name, helper_phone]", "requires: [helper_names, helper_phone]", "helper_names"),
    "consent that is none": (SELF, "says_yes: [referral]", "says_yes: [marriage]", "referrers.self.says_yes"),
    "reserved name": (SELF, "  title: {label", "  needs: {label", "the name is reserved"),
    # a period that ends before it begins
    "hub that is never full": ("capacity.yaml", "full: []", f"full:\n  - {{hub: blaby, {BACKWARDS}}}", "full.blaby.to: 2026-01-31"),
    "district that is never served": ("hubs.yaml", FROM_2017, f"{BACKWARDS}}}, {{code: E07000129, {FROM_2017}", "first day, 2027-01-04"),
    # words
    "placeholder that is none": ("templates/feedback.yaml", "on {date}", "on {day}", "unknown placeholder: {day}"),
    "token of nobody": ("partners.yaml", "id: lpt", "id: uhl", "two partners have the id uhl"),
}  # fmt: skip


@pytest.mark.parametrize(("file", "right", "wrong", "told"), PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_error_is_reported_with_its_line(folder: Path, file: str, right: str, wrong: str, told: str) -> None:
    before = plant(folder, file, right, wrong)
    ((where, line, what),) = found(folder)
    assert where == file
    assert line == before.count("\n") + wrong.count("\n") + 1
    assert told in what


def plant(folder: Path, file: str, right: str, wrong: str) -> str:
    """Puts the wrong text into the place of the right one; returns what stands before it."""
    before, found_, after = (folder / file).read_text().partition(right)
    assert found_, "the fault cannot be planted: the shipped file changed"
    (folder / file).write_text(before + wrong + after)
    return before


def test_renaming_a_form_leaves_a_sender_without_form_and_a_form_without_sender(folder: Path) -> None:
    plant(folder, SELF, "form: self", "form: selves")
    shutil.move(folder / SELF, folder / "forms" / "selves.yaml")
    assert [(file, what) for file, _, what in found(folder)] == [
        ("partners.yaml", "partners.lightbulb-website.formats.0: there is no forms/self.yaml"),
        ("forms/selves.yaml", "form: no partner has it among its formats"),
    ]


def test_a_mapping_without_a_partner_is_reported(folder: Path) -> None:
    plant(
        folder,
        "partners.yaml",
        'formats: [hl7v2, "form:hospital-discharge"]\n    hl7v2: {rri: true, adt: true}',
        'formats: ["form:hospital-discharge"]',
    )
    shutil.copy(folder / BLABY, folder / "councils" / "leeds.yaml")
    plant(
        folder,
        "councils/leeds.yaml",
        "council: blaby\npartner: council-blaby",
        "council: leeds\npartner: council-leeds",
    )
    plant(folder, "councils/leeds.yaml", "Ward Name", "Ward of Leeds")
    assert found(folder) == [
        ("councils/leeds.yaml", 3, "partner: partners.yaml has no partner council-leeds"),
        ("hl7v2/lpt.yaml", 4, "partner: hl7v2 is not among the formats of lpt in partners.yaml"),
    ]


def test_a_new_service_is_a_line_of_its_file(folder: Path) -> None:
    """Forms, mappings and lists may name it: no code and no contract changes."""
    plant(
        folder,
        "services.yaml",
        "services:\n",
        "services:\n  - {service: pest-control, delivered: core, label: Pests}\n",
    )
    plant(folder, DISCHARGE, "service: rent-deposit}", "service: pest-control}")
    assert found(folder) == []
    assert ("pest-control", "Pests") in [(one["code"], one["name"]) for one in lists.load(folder)["services"].items]


def test_what_has_ended_is_a_notice_and_no_fault(folder: Path) -> None:
    plant(folder, "capacity.yaml", "full: []", "full:\n  - {hub: blaby, from: 2026-01-04, to: 2026-01-31}")
    plant(folder, UHL, "encoding:", "test_until: 2026-02-01\nencoding:")
    assert found(folder) == []
    notices = [directory_check.find_notices(folder, date(2026, month, day)) for month, day in ((1, 31), (2, 1), (2, 2))]
    full = f"{folder / 'capacity.yaml'}:5: full.blaby.to: ended on 2026-01-31"
    test_messages = f"{folder / UHL}:6: test_until: ended on 2026-02-01"
    assert [list(map(str, each)) for each in notices] == [[], [full], [full, test_messages]]


DEPLOYMENT = """\
partners:
  gp-alder-lane:
    feedback_url: https://fhir.example.org/
    feedback_token_file: TOKEN
"""


def test_a_deployment_is_checked_against_the_partners(folder: Path, tmp_path: Path) -> None:
    token, file = tmp_path / "token", tmp_path / "deployment.yaml"
    token.write_text("secret")
    token.chmod(0o600)
    addressed = "".join(f"  {name}: {{feedback_url: 'https://other.example.org/'}}\n" for name in OTHER_ENDPOINTS)
    right = DEPLOYMENT.replace("TOKEN", str(token)) + addressed

    def told(text: str) -> list[str]:
        file.write_text(text)
        return [str(one).removeprefix(f"{file}:") for one in directory_check.find_issues(folder, file)]

    assert told(right) == []
    assert told(right.replace("gp-alder-lane", "gp-elder-lane")) == [
        "2: partners.gp-elder-lane: partners.yaml has no partner gp-elder-lane"
    ]
    assert told(right.replace(str(token), "/no/token")) == [
        "4: partners.gp-alder-lane.feedback_token_file: /no/token: No such file or directory"
    ]
    assert told(right.replace("    feedback_url: https://fhir.example.org/\n", "")) == [
        "2: partners.gp-alder-lane.feedback_url: is missing: the channel of gp-alder-lane is fhir, so its feedback waits"
    ]
    token.chmod(0o644)
    assert "is open to other users (mode 0644); run `chmod 600" in " ".join(told(right))
    assert told("partners: [") == ["2: file: is not valid YAML: did not find expected node content"]


OTHER_ENDPOINTS = [
    partner.id
    for partner in partners.load(DIRECTORY, None)
    if partner.feedback.channel == "fhir" and partner.id != "gp-alder-lane"
]
"""Partners other than Alder Lane that need an address."""
