"""The reviewed forms: each line of them is used by a golden pair, and the published schema says what the translator does."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from services.intake.translators import form
from services.intake.translators.form.definition import FieldOf, Form
from services.intake.translators.translator import Translated
from services.reference import directory
from tests.contract.translators.adapters import DIRECTORY, FORMS, PARTNERS
from tests.contract.translators.golden_pairs import FULL, GOLDEN

every_form = pytest.mark.parametrize("asked", FORMS.values(), ids=FORMS.keys())


def accepted(asked: Form) -> list[dict[str, Any]]:
    """The golden messages of a form that are translated into a referral, or take one back."""
    cases = [case for case in sorted((GOLDEN / f"form-{asked.form}").glob("*.in")) if "translated" in _out(case)]
    return [json.loads(body) for body in (case.read_bytes() for case in cases) if not body.startswith(b"--")]


def _out(case: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(case.with_suffix(".out.json").read_text())
    return said


def is_translated(asked: Form, answers: Any) -> bool:
    adapter = FULL[f"form-{asked.form}"]
    return isinstance(adapter.translate(adapter.delivery(json.dumps(answers).encode())), Translated)


@every_form
def test_every_field_need_and_consent_of_a_form_is_used_by_a_golden_pair(asked: Form) -> None:
    pairs = accepted(asked)
    assert {name for pair in pairs for name in pair} >= set(asked.fields)
    assert {name for pair in pairs for name, said in pair.get("needs", {}).items() if said} == set(asked.needs)
    assert {name for pair in pairs for name in pair.get("consents", {})} == {*asked.consents, "on", "by"}


@every_form
def test_the_published_schema_and_the_translator_agree_on_every_change(asked: Form) -> None:
    schema = form.json_schema(asked)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    agreed = set()
    whole = sorted((pair for pair in accepted(asked) if "needs" in pair), key=len)
    taken_back = {"reference": "any", "cancelled": True}
    for what, changed in (*fewer(whole[-1]), *fewer(whole[0]), *other(asked, whole[0]), ("taken back", taken_back)):
        is_valid = validator.is_valid(changed)
        assert is_valid is is_translated(asked, changed), what
        agreed.add(is_valid)
    assert agreed == {True, False}


Changed = Iterator[tuple[str, dict[str, Any]]]


def fewer(pair: dict[str, Any]) -> Changed:
    """A good form, and the same with one answer taken away."""
    yield "as it is", pair
    for name in pair:
        yield f"without {name}", {key: value for key, value in pair.items() if key != name}


def other(asked: Form, pair: dict[str, Any]) -> Changed:
    """A good form with one answer wrong, or another one."""
    for name, field in asked.fields.items():
        for value in (WRONG[field.type], _beyond(field)):
            yield f"{name} {value!r}", pair | {name: value}
    for kind in (*asked.referrers, "nobody"):
        yield f"by {kind}", pair | {"referred_by": kind}
    need = next(iter(asked.needs))
    for name, value in (("castle", True), *((need, value) for value in (True, False, None, "a note", "", 1))):
        yield f"only {name} {value!r}", pair | {"needs": {name: value}}
    yield from _other_consents(asked, pair)


WRONG: dict[str, Any] = {
    "attachments": [{"media_type": "application/pdf", "content": "?"}],
    "date": "5.11.2026",
    "yes-no": "perhaps",
    "number": "1",
    "nhs-number": "12345",
    "postcode": "nowhere",
    "ods": "C-1",
    "ons": "Charnwood",
    "uprn": "none",
    "textphone": "x" * 201,
    "choice": "another",
    "flags": ["another"],
    "lines": ["x" * 301],
    "line": "x" * 201,
    "prose": "x" * 5001,
}


def _beyond(field: FieldOf) -> Any:
    return {"number": 999_999_999 if field.most is None else field.most + 1, "lines": ["x"] * 11}.get(field.type, 1.5)


def _other_consents(asked: Form, pair: dict[str, Any]) -> Changed:
    for question in (*asked.consents, "marriage"):
        for answer in ("yes", "no", "not-recorded", "perhaps", None):
            for notes in ({}, {"on": "2026-11-05", "by": "any"}) if answer in ("yes", None) else ({},):
                others = {name: said for name, said in pair.get("consents", {}).items() if name not in ("on", "by")}
                consents = copy.copy(others | notes | {question: answer})
                if answer is None:
                    del consents[question]
                yield f"consents {consents}", pair | {"consents": consents}


def test_the_form_offers_every_hospital_site_and_each_belongs_to_one_team() -> None:
    hubs = directory.load(DIRECTORY)
    offered = FORMS["hospital-discharge"].fields["site"].choices.values()
    found = [hubs.hospital(site, None, ()) for site in offered]
    assert [(hub.id, worklist) for hub, worklist in found] == [
        ("hospital-housing-bradgate" if site == "Bradgate Unit" else "hospital-housing", site) for site in offered
    ]
    assert set(offered) == {site.name for hub in hubs.hubs for site in hub.sites}


def test_only_hospital_teams_may_send_a_stay() -> None:
    assert FORMS
    for name, asked in FORMS.items():
        senders = {partner.kind for partner in PARTNERS if partner.may_send(f"form:{name}")}
        assert (senders == {"hospital-team"}) is asked.covers_hospital_stay, name


def test_a_person_may_leave_out_all_but_a_name_a_contact_and_their_consent() -> None:
    asked = FORMS["self"]
    least = {"reference": "W-1", "referred_by": "self", "family_name": "Any", "email": "any@example.org"}
    agreed = least | {"needs": {"warm": True}, "consents": {"referral": "yes"}}
    assert set(asked.referrers) == {"self", "family", "carer"}
    assert is_translated(asked, agreed)
    for name in agreed:
        assert not is_translated(asked, {key: value for key, value in agreed.items() if key != name}), name
