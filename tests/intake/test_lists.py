"""Lists of codes: what commands of hubs may name, fetched by any partner with a token."""

import json
from typing import Any, get_args

import pytest

from schemas.case import EndReason, Finding, HoldReason
from services.intake import limits
from services.reference import directory, lists, texts
from services.reference.yaml_files import ConfigError
from tests.builders.reference_data import DIRECTORY, FOLDER
from tests.intake.described import assert_described
from tests.intake.running import InProcess, Reply

LISTS = lists.load(FOLDER)
HUB = "hub-blaby"


async def codes(intake: InProcess, name: str) -> dict[str, dict[str, Any]]:
    reply = await intake.get(f"/lists/{name}", HUB)
    assert reply.status == 200
    return {item["code"]: item for item in reply.json()["items"]}


async def test_the_overview_names_every_list_with_its_version(intake: InProcess) -> None:
    found = await intake.get("/lists", HUB)
    assert [item["code"] for item in found.json()["items"]] == list(LISTS)
    for item in found.json()["items"]:
        assert (await intake.get(f"/lists/{item['code']}", HUB)).json()["version"] == item["version"]


async def test_hubs_and_authorities_are_those_that_a_transfer_or_an_assign_may_name(intake: InProcess) -> None:
    assert {code for code in await codes(intake, "hubs") if DIRECTORY.hub(code)} == {hub.id for hub in DIRECTORY.hubs}
    assert set(await codes(intake, "authorities")) == {one.id for one in DIRECTORY.authorities}
    assert set(await codes(intake, "services")) == directory.catalogue(FOLDER)


async def test_a_restricted_hub_has_no_public_contact(intake: InProcess) -> None:
    found = await codes(intake, "hubs")
    assert {code for code, hub in found.items() if "contact" not in hub} == {"hospital-housing-bradgate"}
    contact = DIRECTORY.hub("hospital-housing-bradgate").contact  # type: ignore[union-attr]
    listed = json.dumps(list(found.values()))
    assert contact.phone not in listed
    assert contact.email not in listed


async def test_codes_are_those_that_commands_may_use(intake: InProcess) -> None:
    assert set(await codes(intake, "end-reasons")) == set(EndReason) - {EndReason.DIED}
    assert set(await codes(intake, "hold-reasons")) == set(HoldReason)
    assert set(await codes(intake, "findings")) == set(get_args(Finding.model_fields["finding"].annotation))


async def test_actions_and_providers_are_those_that_feedback_quotes(intake: InProcess) -> None:
    phrases = texts.approved_phrases(FOLDER)
    assert tuple(await codes(intake, "actions")) == phrases.actions
    assert tuple(await codes(intake, "providers")) == phrases.providers


async def test_a_list_that_has_not_changed_is_not_sent_again(intake: InProcess) -> None:
    first = await intake.get("/lists/hubs", HUB)
    again = await intake.call("GET", "/lists/hubs", b"", HUB, {"if-none-match": first.headers["etag"]})
    other = await intake.call("GET", "/lists/services", b"", HUB, {"if-none-match": first.headers["etag"]})
    assert (again.status, again.body, other.status) == (304, b"", 200)
    assert first.headers["etag"] == f'"{first.json()["version"]}"'


def test_the_version_of_a_list_changes_with_its_items_alone() -> None:
    one, other = LISTS["hubs"], LISTS["actions"]
    assert one.version == one._replace(title="Other").version
    assert one.version != one._replace(items=one.items[1:]).version != other.version


async def test_each_described_status_of_a_list_occurs_and_no_other(
    intake: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = (await intake.get("/openapi.json")).json()
    etag = {"if-none-match": (await intake.get("/lists/hubs", HUB)).headers["etag"]}
    replies: list[Reply] = [
        await intake.get("/lists/hubs", HUB),
        await intake.call("GET", "/lists/hubs", b"", HUB, etag),
        await intake.get("/lists/hubs", None),
        await intake.get("/lists/none", HUB),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(limits, "BURST_SECONDS", 0.0)
        replies.append(await intake.get("/lists/hubs", "gp-alder-lane"))
    described = document["paths"]["/lists/{name}"]["get"]["responses"]
    assert {assert_described(document, "GET", "/lists/hubs", reply) for reply in replies} == {"/lists/{name}"}
    assert {str(reply.status) for reply in replies} == described.keys()
    assert_described(document, "GET", "/lists", await intake.get("/lists", HUB))


def test_a_phrase_that_is_listed_twice_is_reported_with_its_place(tmp_path: Any) -> None:
    (tmp_path / "templates").mkdir()
    file = tmp_path / "templates" / "actions.yaml"
    file.write_text("actions:\n  - rails fitted\n  - Rails  fitted\nproviders: []\n")
    with pytest.raises(ConfigError, match="listed twice"):
        texts.approved_phrases(tmp_path)
