"""The committed contracts: equal to the code, valid, whole, and no worse for those who hold the last release."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # ships no types

from infra.docgen.contracts import __main__ as command
from infra.docgen.contracts import baseline, files
from infra.docgen.contracts.json_schemas import CANONICAL, DEFINITIONS, bundle, every_schema, published, schema_id
from schemas.events import ALL_TYPES, COMMANDS
from services.runtime.settings import CHECKOUT
from tests.schemas.contracts import FOLDER, committed, resolved

every_contract = pytest.mark.parametrize("name", published())


def test_the_committed_contracts_match_the_code() -> None:
    differing = files.drift()
    assert not differing, f"run `python -m infra.docgen.contracts` and commit {', '.join(differing)}"


def test_the_last_release_stays_compatible() -> None:
    breaking = baseline.compare(files.released(), baseline.present()).breaking
    assert not breaking, (
        "make it a new type (v2) or an optional field; while nobody reads it yet:"
        " `python -m infra.docgen.contracts --release --even-breaking`\n" + "\n".join(breaking)
    )


def test_there_is_one_contract_for_each_type_and_one_for_the_referral() -> None:
    assert {path.name.removesuffix(".schema.json") for path in FOLDER.glob(files.GENERATED_PATTERN)} == set(ALL_TYPES)
    assert {path.name.removesuffix(".schema.json") for path in FOLDER.glob("*.schema.json")} == set(every_schema())
    assert set(every_schema()) == {*ALL_TYPES, CANONICAL, DEFINITIONS}


@every_contract
def test_a_contract_is_a_valid_schema_with_its_own_name_and_title(name: str) -> None:
    schema = committed(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == schema_id(name)
    assert schema["title"] == published()[name].__name__
    assert schema["description"]


def test_the_definitions_are_a_valid_schema_and_refer_only_to_each_other() -> None:
    schema = committed(DEFINITIONS)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == schema_id(DEFINITIONS)
    assert _references(schema) <= _definitions(schema)


@every_contract
def test_a_contract_refers_to_definitions_that_exist_and_holds_none(name: str) -> None:
    schema = committed(name)
    there = {f"{DEFINITIONS}.schema.json{reference}" for reference in _definitions(committed(DEFINITIONS))}
    assert _references(schema) <= there
    assert "$defs" not in schema


def test_every_definition_is_referred_to_from_the_contracts() -> None:
    found = {reference.partition("#")[2] for name in every_schema() for reference in _references(committed(name))}
    assert {f"#{reference}" for reference in found} == _definitions(committed(DEFINITIONS))


@every_contract
def test_a_contract_with_its_definitions_equals_the_bundle(name: str) -> None:
    definition = bundle()["contracts"][name]["$ref"].removeprefix("#/$defs/")
    schema = resolved(name)
    said = schema["$defs"][definition] if definition in schema["$defs"] else _without(schema, "$schema", "$id", "$defs")
    assert said == bundle()["$defs"][definition]
    assert all(bundle()["$defs"][other] == same for other, same in schema["$defs"].items())


@every_contract
def test_every_field_of_a_contract_is_described(name: str) -> None:
    objects = [schema for key, schema in _members({"whole": resolved(name)}) if key == "properties"]
    assert objects
    assert [field for fields in objects for field, schema in fields.items() if not schema.get("description")] == []


@every_contract
def test_a_reader_accepts_fields_that_a_contract_does_not_name(name: str) -> None:
    assert [value for key, value in _members(resolved(name)) if key == "additionalProperties"] == []


@every_contract
def test_the_codes_of_an_event_are_open_and_those_of_a_command_closed(name: str) -> None:
    definitions, waiting, seen = bundle()["$defs"], [bundle()["contracts"][name]["$ref"]], set()
    while waiting:
        seen.add(reference := waiting.pop())
        waiting += _references(definitions[reference.removeprefix("#/$defs/")]) - seen
    members = [one for reference in seen for one in _members(definitions[reference.removeprefix("#/$defs/")])]
    keys = {key for key, value in members if key in ("enum", "examples") and isinstance(value, list)}
    assert keys <= ({"enum"} if name in COMMANDS else {"examples"})


def test_an_unknown_code_is_valid_in_an_event_and_not_in_a_command() -> None:
    ended = {"reference": "LB-1", "needs": ["hoarding"]}
    data = {"case_id": "c", "person_key": "k", "expected_version": 1, "ended": [ended], "reason": "a-code-of-2027"}
    position = {"status": "a-code-of-2027", "business_status": "x", "pathway": "x", "directory_version": "x"}
    event = Draft202012Validator(resolved("uk.lightbulb.case.cancelled.v1"))
    assert event.is_valid({**data, "case": position})
    assert not Draft202012Validator(resolved("uk.lightbulb.case.cancel.v1")).is_valid(data)
    assert Draft202012Validator(resolved("uk.lightbulb.case.cancel.v1")).is_valid({**data, "reason": "other"})


def test_the_files_are_the_same_on_every_machine() -> None:
    contracts = list(FOLDER.glob("*.json"))
    assert contracts
    for path in (*contracts, FOLDER / "asyncapi.yaml"):
        content = path.read_bytes()
        assert content.endswith(b"\n")
        assert b"\r" not in content
        assert str(Path.cwd()).encode() not in content


def test_the_baseline_holds_every_definition_once() -> None:
    released = files.released()
    assert {reference["$ref"] for reference in released["contracts"].values()} <= _definitions(released)
    assert _references(released) == _definitions(released)


def test_the_baseline_holds_everything_but_the_descriptions() -> None:
    schema = {
        "title": "Thing",
        "description": "A thing",
        "properties": {"title": {"description": "Its title", "type": "string", "default": {"title": "x"}}},
        "anyOf": [{"description": "Either", "enum": [{"description": "y"}]}],
    }
    assert baseline.without_words(schema) == {
        "properties": {"title": {"type": "string", "default": {"title": "x"}}},
        "anyOf": [{"enum": [{"description": "y"}]}],
    }


def test_writing_keeps_other_files_of_the_folder_and_deletes_outdated_contracts(tmp_path: Path) -> None:
    (tmp_path / "form.schema.json").write_text("{}")
    (tmp_path / "uk.lightbulb.case.gone.v1.schema.json").write_text("{}")
    files.write(tmp_path)
    assert not (tmp_path / "uk.lightbulb.case.gone.v1.schema.json").exists()
    assert (tmp_path / "form.schema.json").read_text() == "{}"
    assert files.drift(tmp_path) == files.write(tmp_path) == []


def test_check_names_the_file_that_differs_and_the_command_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drifted = ["uk.lightbulb.case.opened.v1.schema.json"]
    monkeypatch.setattr(files, "drift", lambda: drifted)
    assert command.main(["--check"]) == 1
    told = capsys.readouterr().out
    assert "python -m infra.docgen.contracts" in told
    assert drifted[0] in told


def test_check_and_release_reject_a_change_that_breaks_readers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(baseline, "present", _without_the_person)
    monkeypatch.setattr(files, "release", pytest.fail)
    assert command.main(["--check"]) == 1
    assert command.main(["--release"]) == 1
    assert "Referral.person: was removed" in capsys.readouterr().out


def _without_the_person() -> dict[str, Any]:
    language = json.loads(json.dumps(files.released()))
    referral = language["$defs"]["Referral"]
    del referral["properties"]["person"]
    referral["required"].remove("person")
    return dict(language)


def test_no_contract_names_a_package_registry() -> None:
    published = list(FOLDER.iterdir())
    assert published
    for path in published:
        assert not re.search(r"pypi|npmjs|maven|registry\.", path.read_text(encoding="utf-8").lower())


@pytest.mark.parametrize("folder", [Path(command.__file__).parent / "npm", CHECKOUT / "examples" / "connect"])
def test_the_lock_of_npm_packages_holds_their_digests_and_no_address(folder: Path) -> None:
    packages = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    package = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    [wanted] = [package[kind] for kind in ("dependencies", "devDependencies") if kind in package]
    assert wanted in (packages[""].get("dependencies"), packages[""].get("devDependencies"))
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    locked = {name: package for name, package in packages.items() if name}
    assert all(package["integrity"].startswith("sha512-") for package in locked.values())
    assert [name for name, package in locked.items() if "resolved" in package] == []


def test_the_schemas_of_the_forms_are_written_for_other_validators(tmp_path: Path) -> None:
    assert command.main(["--forms", str(tmp_path / "forms")]) == 0
    written = [json.loads(path.read_text()) for path in (tmp_path / "forms").iterdir()]
    assert len(written) == len(list((files.DIRECTORY / "forms").glob("*.yaml")))
    for schema in written:
        Draft202012Validator.check_schema(schema)


def test_the_asyncapi_document_is_plain_yaml() -> None:
    text = (FOLDER / "asyncapi.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(?m)[&*]id\d+", text)
    assert yaml.safe_load(text)["asyncapi"] == "3.0.0"


def _definitions(document: Any) -> set[str]:
    return {f"#/$defs/{name}" for name in document["$defs"]}


def _references(document: Any) -> set[str]:
    return {value for key, value in _members(document) if key == "$ref"}


def _without(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in names}


def _members(document: Any) -> list[tuple[str, Any]]:
    """Every member of every object in a document."""
    own = list(document.items()) if isinstance(document, dict) else []
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return own + [member for each in inner for member in _members(each)]
