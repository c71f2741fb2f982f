"""Who may send what: the two files, read together."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.reference import partners, yaml_files
from tests.intake.running import DIRECTORY


def written(folder: Path, entries: list[dict[str, Any]], access: dict[str, Any] | None = None) -> tuple[Path, Path]:
    (folder / "partners.yaml").write_text(yaml.safe_dump({"partners": entries}))
    (folder / "deployment.yaml").write_text(yaml.safe_dump({"partners": access or {}}))
    return folder, folder / "deployment.yaml"


GP = {"id": "gp-any", "name": "Any Surgery", "kind": "gp", "ods": "C82999", "formats": ["bars-fhir"]}
WARD = {"id": "ward", "name": "Any Trust", "kind": "hospital-team", "formats": ["hl7v2"]}
CLINIC = WARD | {"id": "clinic"}
SENDS_ADT = {"hl7v2": {"adt": True}}


def test_a_token_is_recognised_by_its_hash_and_only_the_hash_is_in_a_file(tmp_path: Path) -> None:
    token, digest = partners.new_token()
    folder, deployment = written(tmp_path, [GP], {"gp-any": {"token_sha256": [digest]}})
    known = partners.load(folder, deployment)
    found = known.authenticate(f"Bearer {token}")
    assert found is not None
    assert found.id == "gp-any"
    assert token not in deployment.read_text()


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic abc", "Bearer \udcff", "x" * 9000]
)
def test_any_other_header_is_not_authenticated(tmp_path: Path, header: str | None) -> None:
    folder, deployment = written(tmp_path, [GP], {"gp-any": {"token_sha256": [partners.new_token()[1]]}})
    assert partners.load(folder, deployment).authenticate(header) is None


def test_two_tokens_may_be_valid_during_a_rotation(tmp_path: Path) -> None:
    (old, first), (new, second) = partners.new_token(), partners.new_token()
    folder, deployment = written(tmp_path, [GP], {"gp-any": {"token_sha256": [first, second]}})
    known = partners.load(folder, deployment)
    assert known.authenticate(f"Bearer {old}") == known.authenticate(f"Bearer {new}") != None  # noqa: E711


def test_a_certificate_is_recognised_by_the_sha256_of_its_der(tmp_path: Path) -> None:
    der = b"any certificate"
    access = {
        "ward": {"certificate_sha256": [hashlib.sha256(der).hexdigest()]},
        "clinic": {"adt_certificate_sha256": [hashlib.sha256(b"of ADT").hexdigest()]},
    }
    known = partners.load(*written(tmp_path, [WARD, CLINIC | SENDS_ADT], access))
    ward, clinic = known.by_certificate(der), known.by_certificate(b"of ADT")
    assert (ward and ward.partner, ward and ward.adt_only) == (known.by_id("ward"), False)
    assert (clinic and clinic.partner, clinic and clinic.adt_only) == (known.by_id("clinic"), True)
    assert known.by_certificate(b"another") is known.by_certificate(b"") is known.by_certificate(None) is None


@pytest.mark.parametrize(
    ("networks", "address", "enters"),
    [
        (None, "127.0.0.1", True),
        (None, "::1", True),
        (None, "::ffff:127.0.0.1", True),
        (None, "192.0.2.7", False),
        (["192.0.2.0/28", "2001:db8::/64"], "192.0.2.7", True),
        (["192.0.2.0/28", "2001:db8::/64"], "::ffff:192.0.2.7", True),
        (["192.0.2.0/28", "2001:db8::/64"], "2001:db8::9%eth0", True),
        (["192.0.2.0/28", "2001:db8::/64"], "192.0.2.16", False),
        (["192.0.2.0/28", "2001:db8::/64"], "127.0.0.1", False),
    ],
)
def test_a_partners_port_allows_its_networks_only_and_this_machine_by_default(
    tmp_path: Path, networks: list[str] | None, address: str, enters: bool
) -> None:
    access = {"mllp_port": 2575, "adt_mllp_port": 2576} | ({"mllp_from": networks} if networks else {})
    known = partners.load(*written(tmp_path, [WARD | SENDS_ADT], {"ward": access}))
    listeners = known.listeners()
    feeds = [(one.feed.partner.id, one.feed.adt_only, one.port) for one in listeners]
    assert feeds == [("ward", False, 2575), ("ward", True, 2576)]
    assert {one.accepts(address) for one in listeners} == {enters}


@pytest.mark.parametrize(
    ("entries", "access", "named"),
    [
        ([GP, GP], {}, "partners.gp-any.id: two partners have the id gp-any"),
        ([GP, GP | {"id": "gp-other"}], {}, ":12: partners.gp-other.ods: two partners have the ODS code C82999"),
        ([GP], {"gp-other": {}}, "deployment.yaml:2: partners.gp-other: partners.yaml has no partner gp-other"),
        ([GP | {"formats": ["fax"]}], {}, "partners.yaml:3: partners.gp-any.formats.0"),
        ([GP | {"colour": "blue"}], {}, "partners.gp-any.colour: Extra"),
        ([GP | {"kind": "hub"}], {}, "partners.gp-any: hub is required"),
        ([GP | {"feedback": {"channel": "mesh"}}], {}, "partners.gp-any.feedback: mesh_mailbox"),
        ([GP], {"gp-any": {"token_sha256": ["abc"]}}, "partners.gp-any.token_sha256.0"),
        ([GP | {"hl7v2": {"acknowledgement": "never"}}], {}, "partners.gp-any.hl7v2.acknowledgement"),
        ([GP], {"gp-any": {"mllp_port": 2575}}, "partners.gp-any.mllp_port: gp-any may not send hl7v2"),
        (
            [WARD, CLINIC],
            {"ward": {"mllp_port": 2575}, "clinic": {"mllp_port": 2575}},
            "partners.ward.mllp_port: port 2575 is given twice",
        ),
        ([WARD], {"ward": {"mllp_port": 2575, "mllp_from": ["10.0.0.300/8"]}}, "partners.ward.mllp_from.0"),
        ([WARD], {"ward": {"mllp_port": 2575, "mllp_from": []}}, "partners.ward.mllp_from"),
        (
            [WARD, CLINIC],
            {"ward": {"certificate_sha256": ["a" * 64]}, "clinic": {"certificate_sha256": ["a" * 64]}},
            "partners.ward.certificate_sha256: one of these certificates is given twice",
        ),
        (
            [WARD | SENDS_ADT],
            {"ward": {"mllp_port": 2575, "adt_mllp_port": 2575}},
            "partners.ward.adt_mllp_port: port 2575 is given twice",
        ),
        (
            [WARD | SENDS_ADT],
            {"ward": {"certificate_sha256": ["a" * 64], "adt_certificate_sha256": ["a" * 64]}},
            "partners.ward.adt_certificate_sha256: one of these certificates is given twice",
        ),
        ([WARD], {"ward": {"adt_mllp_port": 2576}}, "partners.ward.adt_mllp_port: ward may not send ADT"),
        (
            [WARD],
            {"ward": {"adt_certificate_sha256": ["a" * 64]}},
            "partners.ward.adt_certificate_sha256: ward may not send ADT",
        ),
        ([GP | SENDS_ADT], {}, "partners.gp-any: hl7v2.adt is not allowed without the format hl7v2"),
        (
            [WARD | {"hl7v2": {"adt_messages_per_second": 5}}],
            {},
            "partners.ward.hl7v2: adt_messages_per_second is not allowed without adt: true",
        ),
        ([WARD | {"hl7v2": {"adt": True, "adt_messages_per_second": 0}}], {}, "hl7v2.adt_messages_per_second"),
        ([WARD | {"hl7v2": {"idle_seconds": 5}}], {}, "partners.ward.hl7v2.idle_seconds"),
    ],
)
def test_errors_in_the_files_are_named(
    tmp_path: Path, entries: list[dict[str, Any]], access: dict[str, Any], named: str
) -> None:
    with pytest.raises(yaml_files.ConfigError, match=named):
        partners.load(*written(tmp_path, entries, access))


def test_the_reviewed_file_holds_the_partners_of_the_county() -> None:
    known = partners.load(DIRECTORY, None)
    kinds = [partner.kind for partner in known]
    assert kinds.count("gp") == 3
    assert {partner.feedback.channel for partner in known if partner.kind == "gp"} == {"fhir", "mesh", "mailbox"}
    assert {partner.council for partner in known if partner.kind == "council"} >= {f"E070001{n}" for n in range(29, 36)}
    assert {known.by_ods("RWE").id, known.by_ods("RT5").id} == {"uhl", "lpt"}  # type: ignore[union-attr]


def test_every_hub_of_the_directory_has_its_own_credential_to_read_attachments() -> None:
    hubs = {hub["id"] for hub in yaml.safe_load((DIRECTORY / "hubs.yaml").read_text())["hubs"]}
    assert {partner.hub for partner in partners.load(DIRECTORY, None) if partner.hub} == hubs


def test_every_partner_has_full_conformance_unless_its_entry_states_otherwise() -> None:
    assert {partner.conformance for partner in partners.load(DIRECTORY, None)} == {"full"}


def test_a_practice_acts_for_itself_only_and_first_contact_for_any_practice() -> None:
    known = partners.load(DIRECTORY, None)
    gp, front_door = known.by_id("gp-alder-lane"), known.by_id("first-contact")
    assert gp is not None
    assert front_door is not None
    assert gp.may_act_for("C82991")
    assert gp.may_act_for(None)
    assert not gp.may_act_for("C82992")
    assert front_door.may_act_for("C82992")
