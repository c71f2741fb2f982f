"""The directory gives the hub of each district on a day, and reports its faults."""

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.reference import directory as directories
from services.reference.directory import FILES
from services.reference.directory.model import fold
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
        ("Leicester General", None, ["RWE"], "hospital-housing", "Leicester General Hospital"),
        ("Loughborough Hospital", "any", ["RWE"], "hospital-housing", "Loughborough Hospital"),
        # a trust with a restricted unit: only a site and a ward of its list
        ("Loughborough Hospital", "Sandpiper Ward", ["RT5"], "hospital-housing", "Loughborough Hospital"),
        ("lpt-lbh", "OLDER PERSONS' UNIT", ["RT5"], "hospital-housing", "Loughborough Hospital"),
        ("St Lukes Hospital", "greenshank ward", ["RT5"], "hospital-housing", "St Luke's Hospital Market Harborough"),
        ("Loughborough Hospital", None, ["RT5"], "hospital-housing-bradgate", None),
        ("Loughborough Hospital", "", ["RT5"], "hospital-housing-bradgate", None),
        ("Loughborough Hospital", "Sandpiper", ["RT5"], "hospital-housing-bradgate", None),
        ("Loughborough Hospital", "Heron Ward", ["RT5"], "hospital-housing-bradgate", None),
        (None, "Sandpiper Ward", ["RT5"], "hospital-housing-bradgate", None),
        ("Sandpiper Ward", "Loughborough Hospital", ["RT5"], "hospital-housing-bradgate", None),
        ("Leicester Royal Infirmary", "Sandpiper Ward", ["RT5"], "hospital-housing-bradgate", None),
        ("Loughborough Hospital", "Bradgate Unit", ["RT5"], "hospital-housing-bradgate", "Bradgate Unit"),
        ("Loughborough Hospital", "Bradgate Unit", ["RWE"], "hospital-housing-bradgate", "Bradgate Unit"),
        ("Loughborough Hospital", "Heron Ward", ["RWE", "RT5"], "hospital-housing-bradgate", None),
        ("Loughborough Hospital", "Heron Ward", ["RWE", "RT5KA"], "hospital-housing-bradgate", None),
    ],
)
def test_a_hospital_stay_is_assigned_to_the_team_of_its_site(
    site: str | None, ward: str | None, trusts: list[str | None], hub: str, worklist: str | None
) -> None:
    found, list_ = DIRECTORY.hospital(site, ward, trusts)

    assert (found.id, list_) == (hub, worklist)


LISTED = [(one.site, ward) for hub in DIRECTORY.hubs for one in hub.community_hospitals for ward in one.wards]


def test_every_listed_ward_belongs_to_the_team_of_its_site_by_each_name_of_the_site() -> None:
    assert LISTED
    for name, ward in LISTED:
        found = DIRECTORY.site(name)
        assert found is not None
        team, site = found
        for word in (site.name, *site.aliases):
            assert DIRECTORY.hospital(word, ward.swapcase(), ["RT5"]) == (team, site.name), (word, ward)


WORDS = [None, "", "Nowhere", *(word for hub in DIRECTORY.hubs for s in hub.sites for word in (s.name, *s.aliases))]


@given(
    site=st.sampled_from(WORDS) | st.text(max_size=12),
    ward=st.sampled_from([*WORDS, *(ward for _, ward in LISTED)]) | st.text(max_size=12),
    trusts=st.permutations(["RT5", "RWE", None]).flatmap(lambda all_: st.sampled_from([all_[:1], all_[:2], all_])),
)
def test_a_stay_that_a_restricted_trust_reports_is_restricted_unless_its_site_and_ward_are_listed(
    site: str | None, ward: str | None, trusts: list[str | None]
) -> None:
    hub, worklist = DIRECTORY.hospital(site, ward, trusts)
    found = DIRECTORY.site(site) if site else None
    listed = found is not None and any(
        (found[1].name, fold(ward)) == (DIRECTORY.site(name)[1].name, fold(one))  # type: ignore[index]
        for name, one in LISTED
    )
    named = any(word and (there := DIRECTORY.site(word)) and there[0].restricted for word in (site, ward))

    assert hub.restricted is bool(named or ("RT5" in trusts and not listed))
    assert (DIRECTORY.hospital(site, ward, reversed(trusts))) == (hub, worklist)


def teams(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the hospital teams of hubs.yaml."""
    return [hub for hub in data["hubs"] if hub["kind"] == "hospital"]


def lists(data: dict[str, Any], **entry: object) -> None:
    """Add an entry to the list of the restricted team."""
    teams(data)[1]["community_hospitals"].append({"site": "Glenfield", "wards": ["Teal"], **entry})


FAULTS: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
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
    ("hubs.yaml", lambda d: d["hubs"][0].update(trusts=["RX1"]), "hubs.blaby: is not of kind hospital"),
    (
        "hubs.yaml",
        lambda d: teams(d)[0]["sites"].append({"name": "Other", "aliases": ["other"]}),
        "hubs.hospital-housing.sites.Other: two sites have the name or code other",
    ),
    (
        "hubs.yaml",
        lambda d: teams(d)[0]["sites"].append({"name": "Other", "aliases": ["lpt bmhu"]}),
        "hubs.hospital-housing-bradgate.sites.Bradgate Unit: two sites have the name or code LPT-BMHU",
    ),
    (
        "hubs.yaml",
        lambda d: teams(d)[0]["sites"].append({"name": "Other", "aliases": ["-"]}),
        "sites.Other: - has no letter or digit",
    ),
    ("hubs.yaml", lambda d: teams(d)[0].update(trusts=["RT5KA"]), "the stays of RT5 belong to an earlier team"),
    ("hubs.yaml", lambda d: teams(d)[1].update(restricted=False), "community_hospitals: has no effect"),
    ("hubs.yaml", lambda d: teams(d)[1].update(trusts=[]), "community_hospitals: has no effect"),
    ("hubs.yaml", lambda d: lists(d, site="Nowhere"), "site: Nowhere is not a site of a hospital team that is not"),
    ("hubs.yaml", lambda d: lists(d, site="Bradgate"), "site: Bradgate is not a site of a hospital team that is not"),
    ("hubs.yaml", lambda d: lists(d, site="LPT-LBH"), "site: LPT-LBH is listed twice"),
    ("hubs.yaml", lambda d: lists(d, wards=["Teal", "TEAL"]), "wards.1: TEAL is listed twice"),
    ("hubs.yaml", lambda d: lists(d, wards=["Bradgate"]), "wards.0: Bradgate is a name of a restricted unit"),
    ("hubs.yaml", lambda d: lists(d, wards=["."]), "wards.0: . has no letter or digit"),
    ("hubs.yaml", lambda d: lists(d, wards=[]), "wards: Tuple should have at least 1 item"),
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
