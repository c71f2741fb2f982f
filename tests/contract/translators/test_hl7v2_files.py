"""A partner's reviewed file for HL7 v2: what is wrong with it is named by file, line and place."""

from pathlib import Path

import pytest

from services.intake.translators import hl7v2
from services.reference import directory
from services.reference.yaml_files import ConfigError
from tests.contract.translators.adapters import DIRECTORY, SERVICES

UHL = (DIRECTORY / "hl7v2" / "uhl.yaml").read_text()


def faults(tmp_path: Path, text: str, name: str = "uhl") -> list[tuple[str, str]]:
    """(the line's own text, place and what is wrong) of each fault of this file."""
    file = tmp_path / f"{name}.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as faulty:
        hl7v2.load(tmp_path, SERVICES)
    assert {fault.file for fault in faulty.value.issues} == {file}
    lines = text.splitlines()
    return [(lines[fault.line - 1].strip(), f"{fault.place}: {fault.what}") for fault in faulty.value.issues]


@pytest.mark.parametrize(
    ("was", "planted", "what"),
    [
        (
            "{service: home-safety,",
            "{service: home-safty,",
            "needs.codes.FALLS.service: services.yaml has no service home-safty",
        ),
        ("{to: person.communication_needs}", "{to: person.shoe_size}", "notes.ACC.to: Input should be"),
        (
            "LB-EDD: {label: Expected discharge, to: expected_discharge_on}",
            "LB-EDD: {label: Expected discharge, to: expected_dischage_on}",
            "observations.LB-EDD.to: the referral has no expected_dischage_on",
        ),
        (
            "LB-UPRN: {label: Property, to: person.address.uprn}",
            "LB-UPRN: {label: Property, to: person.nhs_number}",
            "observations.LB-UPRN.to: person.nhs_number cannot be filled from an observation",
        ),
        (
            "LB-KEYSAFE: {label: Key safe, need: home-security}",
            "LB-KEYSAFE: {label: Key safe, need: home-security, flag: key}",
            "observations.LB-KEYSAFE: exactly one of to, need and flag is required",
        ),
        (
            "    COLD: cold-or-damp-home",
            "    dis CH: cold-or-damp-home",
            "reasons.codes.DISCH: is ambiguous: it differs from dis CH only in case or blanks",
        ),
        (
            "values: {P0: 0, P1: 1, P2: 2, P3: 3}",
            "values: {P0: 0, P1: 1, P2: 2, P3: 4}",
            "observations.LB-PATHWAY.values.P3: Input should be 0, 1, 2 or 3",
        ),
        (
            "to: hospital.pathway, values: {P0: 0, P1: 1, P2: 2, P3: 3}",
            "to: hospital.pathway",
            "observations.LB-PATHWAY: values are required",
        ),
        (
            "      MELTON: E07000133",
            "      MELTON: Melton",
            "observations.LB-AUTHORITY.values.MELTON: String should match",
        ),
        (
            "LB-RFT: {label: Ready for transfer, to: ready_for_transfer_on}",
            "LB-RFT: {label: Ready for transfer, to: ready_for_transfer_on, values: {A: b}}",
            "observations.LB-RFT.values: has no effect",
        ),
        (
            "  read_from: [RF1-10, RF1-1]\n  codes: {ERR",
            "  codes: {ERR",
            "cancels.codes: has no effect: read_from is empty",
        ),
        (
            "  - {application: UHL_TIE}",
            "  - {application: uhl_epr, facility: rwe}",
            "senders.entry 2: has no effect: an earlier entry matches the same",
        ),
        ("cancels:", "fields: {OBX-5: {label: any, to: enquired_on}}\ncancels:", "fields.OBX-5: has no effect"),
        ("referral_id: RF1-6", "referral_id: RF1.6", "referral_id: String should match"),
        (
            "not_stay_classes: [O, E, P, R]",
            "not_stay_classes: [O, i]",
            "not_stay_classes: is a contradiction: i is in stay_classes and not_stay_classes",
        ),
        ("  MRN: https", "  nhs: https", "local_ids: is a contradiction: nhs is in nhs_types and local_ids"),
        (
            "languages: {ENG",
            "home_addresses: [H, C]\nlanguages: {ENG",
            "home_addresses: is a contradiction: C is in home_addresses and temporary_addresses",
        ),
        ("languages: {ENG", "nhs_fields: [PID-3.2]\nlanguages: {ENG", "nhs_fields: has no effect for PID-3"),
        ("names: {CURRENT: current,", "names: {CURRENT: present,", "names.CURRENT: Input should be"),
        ("BIRTH: other,", "birth: other, BIRTH: other,", "names.BIRTH: is ambiguous"),
        ("encoding: utf-8", "encoding: utf-16", "encoding: Input should be"),
        ("title: ", "titel: ", "titel: Extra inputs are not permitted"),
        ("  codes: {LRI: ", "  codes: {LRI: Glenfield, LRI: ", "site.codes.LRI: is a duplicate key"),
    ],
)
def test_a_planted_error_is_reported_with_its_line(tmp_path: Path, was: str, planted: str, what: str) -> None:
    assert was in UHL
    found = faults(tmp_path, UHL.replace(was, planted, 1))

    (line,) = (line for line, said in found if said.startswith(what))
    assert what.partition(":")[0].rpartition(".")[2] in line.replace("- {application: uhl_epr", "entry 2")


def test_the_file_has_its_partners_name(tmp_path: Path) -> None:
    assert faults(tmp_path, UHL, "other") == [("partner: uhl", "partner: must be the name of the file")]


def test_every_error_of_every_file_is_reported_in_one_run(tmp_path: Path) -> None:
    text = UHL.replace("LB-DOG: {label: A dog at the property, flag: dog}", "LB-DOG: {label: Dog, to: dog}").replace(
        "    FALLS: falls", "    FALLS: falls\n    falls: falls"
    )
    assert [what.partition(":")[0] for _, what in faults(tmp_path, text)] == [
        "reasons.codes.falls",
        "observations.LB-DOG.to",
    ]


def test_the_sites_are_those_of_the_hubs() -> None:
    hubs = directory.load(DIRECTORY)
    mappings = hl7v2.load(DIRECTORY / "hl7v2", SERVICES)
    assert mappings
    for mapping in mappings.values():
        assert mapping.site is not None
        assert mapping.site.codes
        for site in mapping.site.codes.values():
            hub, worklist = hubs.hospital(site, None, [])
            assert (hub.restricted, worklist) == (site == "Bradgate Unit", site)
