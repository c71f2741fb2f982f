"""What a person wrote in deployment.yaml stays; ports move one by one."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local import deployment_file
from infra.local.deployment_file import Entries
from infra.local.embedded import StartFailed, ports_and_secrets
from services.reference import partners
from services.reference.yaml_files import ConfigError
from tests.builders.reference_data import FOLDER

GP, BROOK, UHL = "gp-alder-lane", "gp-brook-street", "uhl"
HASH, OTHER = "a" * 64, "b" * 64
GENERATED: Entries = {GP: {"token_sha256": [HASH]}, UHL: {"token_sha256": [OTHER], "mllp_port": 21_000}}


def write(data: Path, generated: Entries = GENERATED, **feedback_urls: str) -> dict[str, Any]:
    urls = {name.replace("_", "-"): url for name, url in feedback_urls.items()}
    deployment_file.write(data, FOLDER, generated, urls)
    return dict(yaml.safe_load((data / "deployment.yaml").read_text())["partners"])


def edit(data: Path, partner: str, **changed: Any) -> None:
    entries = yaml.safe_load((data / "deployment.yaml").read_text())
    entries["partners"].setdefault(partner, {}).update(changed)
    (data / "deployment.yaml").write_text("# why\n" + yaml.safe_dump(entries))


def test_what_a_person_added_or_changed_stays(tmp_path: Path) -> None:
    assert write(tmp_path) == GENERATED
    edit(tmp_path, GP, feedback_url="http://127.0.0.1:9/feedback", token_sha256=[HASH, "c" * 64])
    edit(tmp_path, UHL, mllp_port=2575, mllp_from=["10.20.0.0/16"])
    edit(tmp_path, "lpt", certificate_sha256=["d" * 64])

    written = write(tmp_path, {**GENERATED, UHL: {"token_sha256": [OTHER], "mllp_port": 22_000}})

    assert written == {
        GP: {"feedback_url": "http://127.0.0.1:9/feedback", "token_sha256": [HASH, "c" * 64]},
        UHL: {"mllp_from": ["10.20.0.0/16"], "mllp_port": 2575, "token_sha256": [OTHER]},
        "lpt": {"certificate_sha256": ["d" * 64]},
    }


def test_what_was_generated_follows_what_is_generated_now(tmp_path: Path) -> None:
    write(tmp_path)
    edit(tmp_path, GP, token_sha256=[])
    now: Entries = {GP: {"token_sha256": [OTHER]}, BROOK: {"token_sha256": [HASH]}}
    assert write(tmp_path, now) == {GP: {"token_sha256": []}, BROOK: {"token_sha256": [HASH]}}


def test_a_file_that_needs_no_change_keeps_its_comments(tmp_path: Path) -> None:
    write(tmp_path)
    edit(tmp_path, GP, feedback_url="http://127.0.0.1:9/feedback")
    write(tmp_path)
    assert (tmp_path / "deployment.yaml").read_text().startswith("# why\n")


def test_a_feedback_url_of_the_command_line_is_written_and_stays(tmp_path: Path) -> None:
    write(tmp_path)
    edit(tmp_path, GP, feedback_url="http://127.0.0.1:9/earlier")
    token_file = str(tmp_path / f"feedback-token-{GP}")
    for urls in ({"gp_alder_lane": "http://127.0.0.1:9/now"}, {}):
        entry = write(tmp_path, **urls)[GP]
        assert (entry["feedback_url"], entry["feedback_token_file"]) == ("http://127.0.0.1:9/now", token_file)
    assert Path(token_file).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("partners: [", "deployment.yaml:2: file: is not valid YAML"),
        ("partners:\n  uhl: {mllp_prot: 2575}\n", "deployment.yaml:2: partners.uhl.mllp_prot: Extra inputs"),
        ("partners:\n  nowhere: {token_sha256: []}\n", "partners.yaml has no partner nowhere"),
        ("", "deployment.yaml:1: file: is empty"),
    ],
)
def test_a_file_with_an_error_is_refused_by_its_line_and_not_overwritten(
    tmp_path: Path, content: str, text: str
) -> None:
    (tmp_path / "deployment.yaml").write_text(content)
    with pytest.raises(ConfigError) as refused:
        write(tmp_path)
    assert text in str(refused.value)
    assert "\n" not in str(refused.value)
    assert content in (tmp_path / "deployment.yaml").read_text() or "nowhere" in content


@pytest.mark.parametrize(
    ("partner", "text"), [("nowhere", "has no partner nowhere"), (UHL, "the channel of uhl is mailbox")]
)
def test_a_feedback_url_for_no_fhir_endpoint_is_refused(tmp_path: Path, partner: str, text: str) -> None:
    loaded = {one.id: one for one in partners.load(FOLDER, None)}
    with pytest.raises(StartFailed, match=text):
        deployment_file.check(tmp_path, loaded, {partner: "http://127.0.0.1:9/"})


def test_an_mllp_port_of_a_person_that_is_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server((ports_and_secrets.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        write(tmp_path)
        edit(tmp_path, UHL, mllp_port=port)
        deployment = deployment_file.write(tmp_path, FOLDER, GENERATED, {})
        with pytest.raises(StartFailed, match=f"deployment.yaml: mllp_port {port} of uhl is in use"):
            deployment_file.mllp_ports(tmp_path, deployment, {"mllp": {UHL: 21_000}, "adt_mllp": {}})
    assert deployment_file.mllp_ports(tmp_path, deployment, {"mllp": {}, "adt_mllp": {}})["mllp"] == {UHL: port}


# ---- ports ----------------------------------------------------------------------------------------------------------


def test_only_the_port_that_is_in_use_moves_and_is_named(tmp_path: Path) -> None:
    reported: list[str] = []
    names = ["intake", "notifier", "mllp of uhl"]
    first = ports_and_secrets.ports(tmp_path / "ports.json", names, reported.append)
    with socket.create_server((ports_and_secrets.HOST, first["notifier"])):
        second = ports_and_secrets.ports(tmp_path / "ports.json", [*names, "mllp of lpt"], reported.append)
    third = ports_and_secrets.ports(tmp_path / "ports.json", names, reported.append)

    assert {name for name in names if first[name] != second[name]} == {"notifier"}
    assert third == {name: second[name] for name in names}
    assert reported == [
        f"port {first['notifier']} of notifier is in use by another process: notifier is on port {second['notifier']} now"
    ]
    assert len(set(second.values())) == 4


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"intake": "x"}', "null"])
def test_damaged_ports_are_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "ports.json").write_text(content)
    chosen = ports_and_secrets.ports(tmp_path / "ports.json", ["intake"])
    assert json.loads((tmp_path / "ports.json").read_text()) == chosen


def test_damaged_tokens_are_named(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text("{")
    with pytest.raises(StartFailed, match=r"tokens\.json is damaged"):
        ports_and_secrets.read_json(tmp_path / "tokens.json")
