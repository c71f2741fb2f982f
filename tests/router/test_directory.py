"""The directory says who serves whom on a day, and tells what is wrong in it."""

import shutil
from datetime import date
from pathlib import Path

import pytest
import yaml

from services.reference import directory as directories
from services.reference.directory import FILES
from services.reference.yaml_files import ConfigError
from tests.builders.events import TODAY
from tests.builders.reference_data import BLABY, CHARNWOOD, DIRECTORY, LEICESTER

SOURCE = Path(__file__).parents[2] / "infra" / "reference_data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in FILES:
        shutil.copy(SOURCE / file, tmp_path / file)
    return tmp_path


def changed(folder: Path, file: str, change: object) -> list[str]:
    data = yaml.safe_load((folder / file).read_text())
    change(data)  # type: ignore[operator]
    (folder / file).write_text(yaml.safe_dump(data))
    return faults(folder)


def faults(folder: Path) -> list[str]:
    try:
        directories.load(folder)
    except ConfigError as faulty:
        return [str(fault).removeprefix(f"{folder}/") for fault in faulty.issues]
    return []


def test_the_directory_of_leicestershire_passes_its_check() -> None:
    assert faults(SOURCE) == []
    assert {hub.id for hub in DIRECTORY.hubs if hub.kind == "locality"} == {
        "blaby",
        "charnwood",
        "harborough",
        "hinckley-bosworth",
        "melton",
        "nw-leicestershire",
        "oadby-wigston",
    }
    assert directories.catalogue(SOURCE) == {offer.service for offer in DIRECTORY.services}


def test_a_service_that_is_not_in_the_catalogue_has_no_offer_and_is_not_onward() -> None:
    assert DIRECTORY.is_onward("blue-badge")
    assert not DIRECTORY.is_onward("stair-lifts")
    with pytest.raises(directories.UnknownService):
        DIRECTORY.offer("stair-lifts")


def test_the_version_changes_with_any_file(folder: Path) -> None:
    before = directories.load(folder).version
    with (folder / "capacity.yaml").open("a") as capacity:
        capacity.write("# reviewed\n")

    assert directories.load(folder).version != before


def test_a_hub_serves_its_district_from_its_start_date() -> None:
    hub = DIRECTORY.hub_for_district(CHARNWOOD, date(2017, 10, 1))

    assert hub is not None
    assert hub.id == "charnwood"
    assert DIRECTORY.hub_for_district(CHARNWOOD, date(2017, 9, 30)) is None


def test_a_district_can_pass_to_another_hub(folder: Path) -> None:
    def passes(data: dict[str, list[dict[str, object]]]) -> None:
        data["hubs"][0]["districts"] = [{"code": BLABY, "from": date(2017, 10, 1), "to": date(2027, 3, 31)}]
        data["hubs"][1]["districts"] += [{"code": BLABY, "from": date(2027, 4, 1)}]  # type: ignore[operator]

    assert changed(folder, "hubs.yaml", passes) == []
    served = directories.load(folder)
    assert [served.hub_for_district(BLABY, day).id for day in (date(2027, 3, 31), date(2027, 4, 1))] == [  # type: ignore[union-attr]
        "blaby",
        "charnwood",
    ]


def test_hub_and_authority_have_a_public_contact() -> None:
    for name in ("blaby", "triage", "leicester-city"):
        found = DIRECTORY.contact(name)
        assert found is not None
        assert found.contact.phone
    assert DIRECTORY.contact("nowhere") is None
    assert DIRECTORY.authority_for_district(LEICESTER).id == "leicester-city"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("site", "ward", "trusts", "hub", "worklist"),
    [
        ("Leicester Royal Infirmary", "Ward 23", ["RWE"], "hospital-housing", "Leicester Royal Infirmary"),
        ("lri", None, [], "hospital-housing", "Leicester Royal Infirmary"),
        ("GLENFIELD HOSPITAL", None, ["RWE"], "hospital-housing", "Glenfield"),
        ("Bradgate Unit", None, ["RT5"], "hospital-housing-bradgate", "Bradgate Unit"),
        ("Glenfield", "Bradgate Unit", ["RT5"], "hospital-housing-bradgate", "Bradgate Unit"),
        ("Ward nobody knows", None, ["RT5"], "hospital-housing-bradgate", None),
        ("Glenfield", None, ["RT5"], "hospital-housing-bradgate", None),
        (None, None, ["RWE", None], "hospital-housing", None),
    ],
)
def test_a_hospital_stay_is_assigned_to_the_team_of_its_site(
    site: str | None, ward: str | None, trusts: list[str | None], hub: str, worklist: str | None
) -> None:
    found, list_ = DIRECTORY.hospital(site, ward, trusts)

    assert (found.id, list_) == (hub, worklist)


FAULTS = [
    ("hubs.yaml", lambda d: d["hubs"][0].pop("contact"), "hubs.yaml:17: hubs.blaby.contact: Field required"),
    ("hubs.yaml", lambda d: d["hubs"][0].update(overflow="leeds"), "hubs.blaby.overflow: leeds is not a hub"),
    (
        "hubs.yaml",
        lambda d: d["hubs"][6].update(overflow="blaby"),
        "hubs.blaby.overflow: the overflow chain leads back to this hub",
    ),
    (
        "hubs.yaml",
        lambda d: d["hubs"][0]["districts"][0].update(code="E07000999"),
        "hubs.blaby.districts.E07000999: E07000999 is not a district of the county",
    ),
    (
        "hubs.yaml",
        lambda d: d["hubs"][0].update(districts=[]),
        "hubs.yaml:2: county.E07000129: no hub serves E07000129 without a last day",
    ),
    (
        "hubs.yaml",
        lambda d: d["hubs"][1]["districts"].append({"code": BLABY, "from": TODAY}),
        "hubs.charnwood.districts.E07000129: blaby and charnwood both serve E07000129 on the same day",
    ),
    ("hubs.yaml", lambda d: d["hubs"][0].update(id="triage"), "hubs.triage.id: two hubs have the id triage"),
    ("hubs.yaml", lambda d: d["hubs"][0].update(colour="red"), "hubs.blaby.colour: Extra inputs"),
    ("services.yaml", lambda d: d["services"].pop(0), "services.yaml:1: services: information-advice is missing"),
    (
        "services.yaml",
        lambda d: d["services"].append(d["services"][0]),
        "services.information-advice: information-advice is listed twice",
    ),
    (
        "authorities.yaml",
        lambda d: d["authorities"][0].update(code=BLABY),
        "is also the code of an authority outside the county",
    ),
    (
        "capacity.yaml",
        lambda d: d.update(full=[{"hub": "leeds", "from": TODAY}]),
        "capacity.yaml:3: full.leeds.hub: leeds is not a hub",
    ),
]


@pytest.mark.parametrize(("file", "change", "told"), FAULTS, ids=[told for _, _, told in FAULTS])
def test_a_fault_is_reported_with_its_file_and_place(folder: Path, file: str, change: object, told: str) -> None:
    found = changed(folder, file, change)

    assert any(told in fault for fault in found), found


def test_a_missing_file_and_invalid_yaml_are_reported_by_name(folder: Path) -> None:
    (folder / "services.yaml").unlink()
    (folder / "capacity.yaml").write_text("full: [")

    assert faults(folder) == [
        "services.yaml:1: file: cannot be read: No such file or directory",
        "capacity.yaml:2: file: is not valid YAML: did not find expected node content",
    ]
