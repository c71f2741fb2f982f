"""What must hold of the field cases themselves; no server is started."""

import copy
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.field import __main__ as runner
from tests.field import expectation, scripted
from tests.field.case import CASES, Case, Unplayed, Wrong, case
from tests.field.expectation import Answer, Seen
from tests.field.fresh import NHS_NUMBER, Fresh, nhs_number
from tests.field.scripted import HERE, Script
from tests.schemas.contracts import resolved

runner.load()
DATA = ("fhir", "hl7v2", "csv", "form")
"""Formats whose cases are data."""

SCRIPTS = [script for kind in DATA for script in scripted.scripts(kind)]
FUNCTIONS = {"fhir/letter-subject-polish", "hl7v2/unknown-need-until-it-is-read"}
"""Cases that are data only in part: what must be true of them is a function."""


# ---- the cases ---------------------------------------------------------------------------------------------------------


def test_every_input_belongs_to_one_case() -> None:
    used = Counter(file for script in SCRIPTS if not script.changes for file in script.files)
    inputs = {file for kind in DATA for file in (HERE / kind).iterdir()}
    assert set(used) == inputs
    assert set(used.values()) == {1}


def test_every_case_has_a_committed_verdict_and_no_other_has() -> None:
    expected = json.loads(runner.EXPECTED.read_text())
    assert set(expected) == set(CASES)
    assert set(expected.values()) == {"holds", "wrong"}


def test_the_controls_hold() -> None:
    expected = json.loads(runner.EXPECTED.read_text())
    controls = [name for name in expected if re.search(r"/control(-cancel|-refused|-update)?$", name)]
    assert len(controls) == 11
    assert {expected[name] for name in controls} == {"holds"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_case_says_why_and_asserts_more_than_an_answer(script: Script) -> None:
    assert script.name in CASES
    assert script.files
    assert script.why.strip()
    assert script.source.strip()
    assert bool(script.right) is (script.name not in FUNCTIONS)
    for alternative in script.right:
        assert len(alternative["answers"]) == len(script.files)
        assert set(alternative) <= set(expectation.KINDS)
        assert set(alternative) - {"answers", "answer", "acknowledges"}


def paths(kind: str) -> Iterator[tuple[str, str]]:
    """Every (case, path) of assertions of this kind."""
    for script in SCRIPTS:
        for alternative in script.right:
            yield from ((script.name, path) for path in alternative.get(kind, ()))
            at_hubs = alternative.get("at", {}).values() if kind == "hub" else ()
            yield from ((script.name, path) for checks in at_hubs for path in checks)


@pytest.mark.parametrize(
    ("kind", "contract", "root"),
    [("event", "uk.lightbulb.referral.received.v1", None), ("hub", "uk.lightbulb.case.opened.v1", "HubReferral")],
)
def test_every_path_is_in_the_published_contract(kind: str, contract: str, root: str | None) -> None:
    schema = copy.deepcopy(resolved(contract))
    begin = schema["$defs"][root] if root else schema
    begin["properties"].update({"case": schema["properties"]["case"]} if root else {})
    named = list(paths(kind))
    assert named
    unknown = [one for one in named if not is_in_contract(schema, begin, one[1].split("."))]
    assert not unknown


def is_in_contract(whole: dict[str, Any], part: dict[str, Any], names: list[str]) -> bool:
    if "$ref" in part:
        return is_in_contract(whole, whole["$defs"][part["$ref"].rpartition("/")[2]], names)
    if "anyOf" in part:
        return any(is_in_contract(whole, one, names) for one in part["anyOf"])
    if not names:
        return True
    name = names[0].removesuffix("[]")
    if name not in part.get("properties", {}):
        return False
    below = part["properties"][name]
    if names[0].endswith("[]"):
        return "items" in below and is_in_contract(whole, below["items"], names[1:])
    return is_in_contract(whole, below, names[1:])


def test_a_path_that_is_not_in_the_contract_is_found() -> None:
    schema = resolved("uk.lightbulb.referral.received.v1")
    assert is_in_contract(schema, schema, ["referral", "needs[]", "service"])
    assert not is_in_contract(schema, schema, ["referral", "person", "phones"])
    assert not is_in_contract(schema, schema, ["referral", "person[]"])


# ---- the evaluator -----------------------------------------------------------------------------------------------------

ONE, TWO = "LB-0000-0000-0001", "LB-0000-0000-0002"


def an_event(reference: str = ONE, version: int = 1, **referral: Any) -> tuple[str, dict[str, Any]]:
    kind = "referral.received" if version == 1 else "referral.updated"
    return kind, {"reference": reference, "version": version, "referral": referral}


def at_hub(
    hub: str = "charnwood", role: str = "holder", case_id: str = "a", number: int = 1, **referral: Any
) -> tuple[str, dict[str, Any]]:
    one = {"reference": referral.pop("reference", ONE), "status": "requested", "referral": referral}
    case = {"home_hub": hub}
    return hub, {"case_id": case_id, "hub_version": number, "role": role, "case": case, "referrals": [one]}


def a_former(hub: str) -> tuple[str, dict[str, Any]]:
    """What a hub is sent when it no longer has a case: no referral is shown."""
    return hub, {"case_id": "a", "hub_version": 2, "role": "former", "case": {"home_hub": None}}


def a_task(kind: str) -> tuple[str, dict[str, Any]]:
    hub, data = at_hub(number=2)
    return hub, {**data, "kind": kind, "due": "2026-11-20"}


def seen(*answers: Answer, events: Any = (), hubs: Any = ()) -> Seen:
    return Seen(answers or [Answer(200, ONE)], list(events), list(hubs))


def seen_after(**more: Any) -> Seen:
    return Seen([Answer(200, ONE)], **more)


def acknowledged(code: str, control_id: str, reference: str = ONE) -> Answer:
    return Answer(code, f"MSH|^~\\&|\nMSA|{code}|{control_id}|{reference}\n")


def a_report(*outcomes: str, **of_each: Any) -> Answer:
    """A council's report with these rows."""
    return Answer(200, json.dumps({"rows": [{"outcome": outcome, **of_each} for outcome in outcomes]}))


KINDS: dict[str, tuple[Any, Seen, list[Seen]]] = {
    "answers": (
        [[200, 201], 409],
        seen(Answer(200, ""), Answer(409, "")),
        [seen(Answer(200, ""), Answer(200, "")), seen(Answer(200, "")), seen(Answer(404, ""), Answer(409, ""))],
    ),
    "answer": ({"has": ["NTE^1^3"]}, seen(Answer("AE", "ERR||NTE^1^3|102")), [seen(Answer("AE", "ERR||PID^1^3"))]),
    "acknowledges": (
        "FT1",
        seen(acknowledged("AA", "FT1")),
        [seen(acknowledged("AR", "")), seen(acknowledged("AA", "FT2")), seen(Answer("", ""))],
    ),
    "references": (
        "different",
        seen(Answer(200, ONE), Answer(200, TWO)),
        [seen(Answer(200, ONE), Answer(200, ONE)), seen(Answer(200, ONE), Answer(409, ""))],
    ),
    "rows": (
        ["received", "refused"],
        seen(a_report("received", "refused")),
        [seen(a_report("received")), seen(a_report("refused", "received")), seen(Answer(400, ""))],
    ),
    "faults": (
        {"BIRTH": "value"},
        seen(a_report("refused", faults=[{"column": "BIRTH", "kind": "value"}])),
        [
            seen(a_report("refused", faults=[{"column": "BIRTH", "kind": "required"}])),
            seen(a_report("refused", faults=[{"column": one, "kind": "value"} for one in ("BIRTH", "NHSNO")])),
            seen(a_report("refused")),
        ],
    ),
    "warnings": (
        {"postcode": "value"},
        seen(Answer(202, json.dumps({"warnings": [{"field": "postcode", "kind": "value"}]}))),
        [seen(Answer(202, "{}")), seen(Answer(202, json.dumps({"faults": [{"field": "postcode", "kind": "value"}]})))],
    ),
    "event": (
        {"referral.priority": {"is": ["urgent"]}, "version": {"is": [2]}},
        seen(events=[an_event(priority="routine"), an_event(version=2, priority="urgent")]),
        [
            seen(events=[an_event(version=2, priority="urgent"), an_event(version=3, priority="routine")]),
            seen(events=[an_event(TWO, 2, priority="urgent")]),
            seen(events=[("referral.cancelled", {"reference": ONE, "version": 2})]),
            seen(),
        ],
    ),
    "published": (
        {"has": ["referral.received"], "lacks": ["referral.cancelled"]},
        seen(events=[an_event()]),
        [seen(), seen(events=[an_event(), ("referral.cancelled", {"reference": ONE, "version": 2})])],
    ),
    "hub": (
        {"referral.ward": {"is": ["9"]}, "case.home_hub": {"is": ["charnwood"]}},
        seen(
            hubs=[
                at_hub("melton", ward="8"),
                a_former("melton"),
                at_hub(number=1, ward="8"),
                at_hub(number=2, ward="9"),
            ]
        ),
        [
            seen(hubs=[at_hub(number=1, ward="9"), at_hub(number=2, ward="8")]),
            seen(hubs=[at_hub(number=1, ward="9"), at_hub(number=2, role="former", ward="9")]),
            seen(hubs=[at_hub("melton", ward="9")]),
            seen(hubs=[at_hub(ward="9", reference=TWO)]),
        ],
    ),
    "at": (
        {"charnwood": {"referral.ward": {"is": ["9"]}}},
        seen(hubs=[at_hub("melton", ward="8"), at_hub(ward="9")]),
        [seen(hubs=[at_hub(ward="8")]), seen(hubs=[at_hub("melton", ward="9")])],
    ),
    "roles": (
        {"charnwood": "holder"},
        seen(hubs=[at_hub(), at_hub("melton", "former")]),
        [seen(), seen(hubs=[at_hub("melton")]), seen(hubs=[at_hub(), at_hub(role="former", number=2)])],
    ),
    "hubs": (
        ["charnwood"],
        seen(hubs=[at_hub()]),
        [seen(), seen(hubs=[at_hub(), at_hub("melton", "former")]), seen(hubs=[at_hub("melton")])],
    ),
    "tasks": (
        {"has": ["discharge-overdue"]},
        seen(hubs=[at_hub(), a_task("discharge-overdue")]),
        [seen(hubs=[at_hub()]), seen(hubs=[a_task("check-person")])],
    ),
    "cases": (
        2,
        seen(Answer("AA", ONE), Answer("AA", TWO), hubs=[at_hub(), at_hub(case_id="b", reference=TWO)]),
        [
            seen(Answer("AA", ONE), Answer("AA", TWO), hubs=[at_hub(), at_hub(number=2, reference=TWO)]),
            seen(Answer("AA", ONE)),
        ],
    ),
    "mirrored": (
        {"x-request-id": "a"},
        seen(Answer(200, "", {"x-request-id": "a", "date": "b"})),
        [seen(Answer(200, "", {"x-request-id": "b"})), seen(Answer(200, ""))],
    ),
    "feedback": (
        {"has": ["received"]},
        seen_after(feedback=[("received", "a text")]),
        [seen(), seen_after(feedback=[("rejected", "received")])],
    ),
    "said": (
        {"lacks": ["Charnwood"]},
        seen_after(feedback=[("received", "by Lightbulb")]),
        [seen_after(feedback=[("received", "by Charnwood")])],
    ),
    "letter": ({"mentions": ["lucja"]}, seen_after(letters=["for Lucja"]), [seen(), seen_after(letters=["for ucja"])]),
    "nowhere": (
        ["HIV"],
        seen(events=[an_event(reason="falls")], hubs=[at_hub(reason="falls")]),
        [seen(events=[an_event(reason="an hiv test")]), seen(hubs=[at_hub(reason="HIV")])],
    ),
}


def test_every_kind_of_assertion_is_tried_here() -> None:
    assert set(KINDS) == set(expectation.KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_assertion_holds_for_right_data_and_fails_for_wrong_data(kind: str) -> None:
    expected, right, wrongs = KINDS[kind]
    assert expectation.wrong([{kind: expected}], right) is None
    assert wrongs
    for one in wrongs:
        assert expectation.wrong([{kind: expected}], one)


def test_nothing_published_fails_for_an_event_and_for_a_hub_that_was_sent_something() -> None:
    assert expectation.wrong([{"published": "nothing"}], seen(Answer(422, ""))) is None
    assert expectation.wrong([{"published": "nothing"}], seen(Answer(422, ""), events=[an_event()]))
    assert expectation.wrong([{"published": "nothing"}], seen(Answer(422, ""), hubs=[at_hub()]))


def test_what_follows_from_an_answer_is_asserted_at_the_hub_and_in_the_feedback() -> None:
    taken = expectation.with_effects({"answers": [200], "event": {"referral.a": {"is": ["b"]}, "version": {"is": [1]}}})
    assert taken["hub"] == {"referral.a": {"is": ["b"]}, "status": {"is": ["requested"]}}
    assert taken["feedback"] == {"mentions": ["received", "home-hub", "status requested"], "lacks": ["cancelled"]}
    cancelled = expectation.with_effects({"answers": [200, 200], "published": {"has": ["referral.cancelled"]}})
    assert cancelled["hub"] == {"status": {"is": ["cancelled"]}}
    assert cancelled["feedback"]["has"] == ["cancelled"]
    assert expectation.with_effects({"answers": [400], "published": "nothing"})["feedback"] == {"is": [None]}
    own = expectation.with_effects(
        {"event": {"referral.b": {}}, "hub": {"status": {}, "referral.b": None}, "feedback": {}}
    )
    assert own == {"event": {"referral.b": {}}, "hub": {"status": {}}, "feedback": {}}


@pytest.mark.parametrize(
    ("check", "right", "wrongs"),
    [
        ({"is": ["no", None]}, [{"a": "no"}, {}, {"a": None}], [{"a": "yes"}]),
        ({"is": [True]}, [{"a": True}], [{"a": False}, {}]),
        ({"has": ["x", "y"]}, [{"a": "x and y"}], [{"a": "x"}, {}]),
        ({"lacks": ["x"]}, [{"a": "y"}, {}], [{"a": "an x"}]),
        ({"mentions": ["dead", "died"]}, [{"a": "Has DIED"}, {"a": {"dead": True}}], [{"a": {"dead": None}}, {}]),
        ({"has": ["x"], "lacks": ["y"]}, [{"a": "x"}], [{"a": "x y"}, {"a": "z"}]),
    ],
)
def test_a_check_of_values(check: dict[str, Any], right: list[Any], wrongs: list[Any]) -> None:
    for referral in right:
        assert expectation.wrong([{"event": {"referral.a": check}}], seen(events=[an_event(**referral)])) is None
    for referral in wrongs:
        assert expectation.wrong([{"event": {"referral.a": check}}], seen(events=[an_event(**referral)]))


def test_a_path_reaches_each_element_of_a_list() -> None:
    data = {
        "needs": [{"service": "a", "codes": ["1"]}, {"codes": []}, {"service": "b", "codes": ["2", "3"]}],
        "x": None,
    }
    assert expectation.values(data, "needs[].service") == ["a", "b"]
    assert expectation.values(data, "needs[].codes[]") == ["1", "2", "3"]
    assert expectation.values(data, "x.y") == []


def test_one_alternative_is_enough_and_all_its_assertions_are_needed() -> None:
    refused: dict[str, Any] = {"answers": [422], "published": "nothing"}
    taken: dict[str, Any] = {"answers": [200], "event": {"referral.a": {"is": ["b"]}}}
    assert expectation.wrong([refused, taken], seen(Answer(422, ""))) is None
    assert expectation.wrong([refused, taken], seen(events=[an_event(a="b")])) is None
    both = expectation.wrong([refused, taken], seen(events=[an_event(a="c")]))
    assert both == "answered 200, expected 422; or: referral.a: c (expected: is b)"


# ---- fresh people and references ---------------------------------------------------------------------------------------


def test_ids_are_new_in_each_case_the_same_in_all_its_messages_and_can_be_turned_back() -> None:
    text = "9996100073 FT10101 FT-101 S0660101 40a317d7-bc60-4c6c-a07e-4c75d7863aad 10017 LE11 5AA 20261116 9999999999"
    fresh, other = Fresh(["10017"]), Fresh(["10017"])
    first, again = fresh.text(text), fresh.text(text)
    assert first == again
    assert first != other.text(text)
    assert fresh.back(first) == text
    changed = [old != new for old, new in zip(text.split(), first.split(), strict=True)]
    assert changed == [True] * 6 + [False] * 4
    assert fresh.is_in(f"about {first.split()[0]}", ())
    assert not fresh.is_in(text, ())
    assert fresh.is_in(ONE, {ONE})


def test_a_new_nhs_number_is_synthetic_and_passes_its_check() -> None:
    numbers = {nhs_number() for _ in range(200)}
    assert len(numbers) > 190
    for number in numbers:
        assert re.fullmatch(NHS_NUMBER, number)
        weights = sum(int(digit) * (10 - place) for place, digit in enumerate(number[:9]))
        assert (weights + int(number[9])) % 11 == 0


# ---- the runner --------------------------------------------------------------------------------------------------------


def raising(error: Exception | None) -> Case:
    def play(_: dict[str, Any]) -> None:
        if error:
            raise error

    return Case("fhir/some", play)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(None, "holds"), (Wrong("no"), "wrong"), (Unplayed("away"), "unplayed"), (KeyError("x"), "unplayed")],
)
def test_what_a_case_raises_is_its_verdict(error: Exception | None, verdict: str) -> None:
    assert runner.played(raising(error), {})[0] == verdict


def test_every_difference_from_the_committed_verdicts_is_named() -> None:
    verdicts = {"a": ("holds", ""), "b": ("unplayed", "away"), "c": ("wrong", ""), "d": ("holds", "")}
    expected = {"a": "holds", "b": "wrong", "c": "holds", "e": "wrong"}
    assert list(runner.differences(verdicts, expected, whole=True)) == [
        "differs: b: wrong -> unplayed",
        "differs: c: holds -> wrong",
        "differs: d: not committed -> holds",
        "differs: e: wrong -> gone",
    ]
    assert "differs: e: wrong -> gone" not in runner.differences(verdicts, expected, whole=False)


def test_two_cases_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="fhir/control"):
        case("fhir/control")(lambda _: None)
