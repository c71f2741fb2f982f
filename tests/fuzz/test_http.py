"""A short fixed part of the fuzzing over HTTP: bodies of each kind, and one address of each kind by the document."""

from collections.abc import Iterator
from typing import Any

import pytest

from services.intake.batch import ProtocolResponse
from services.intake.http import messages
from services.intake.responses import problems
from tests.fuzz.http_asked import Fuzzing
from tests.fuzz.http_served import Served

SHORT = ("bars", "form first-contact-plus", "form hospital-discharge", "hl7v2", "file blaby", "file charnwood")
POSTED = ("/fhir/$process-message", "/forms/first-contact-plus", "/hl7v2", "/councils/blaby/referrals")
DESCRIBED = [
    *((f"POST {path}", mode) for path in POSTED for mode in ("positive", "negative")),
    *(("GET /attachments/{reference}", "positive"), ("GET /openapi.json", "positive")),
]
"""Operations of the OpenAPI document, and whether it allows the requests; one without a body is only tested with those it allows."""


@pytest.fixture(scope="module")
def fuzzing(migrated: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzing]:
    served = Served(migrated.replace("postgresql://", "postgresql+asyncpg://"), tmp_path_factory.mktemp("fuzz"))
    yield Fuzzing(served, examples=0)
    served.stop()


@pytest.mark.parametrize("way", SHORT)
def test_any_body_and_any_header_gets_one_answer_as_described_and_one_record(fuzzing: Fuzzing, way: str) -> None:
    _assert_target_holds(fuzzing, f"bodies {way}", 12)
    _assert_target_holds(fuzzing, f"headers {way}", 3)


@pytest.mark.parametrize(("label", "mode"), DESCRIBED)
def test_valid_and_invalid_bodies_are_answered_as_the_document_describes(
    fuzzing: Fuzzing, label: str, mode: str
) -> None:
    _assert_target_holds(fuzzing, f"document {label} {mode}", 2)


def _assert_target_holds(fuzzing: Fuzzing, name: str, examples: int) -> None:
    fuzzing.examples = examples
    targets = [target for found, target in fuzzing.targets() if found == name]
    assert targets
    for target in targets:
        target()


# ---- what is planted is found ---------------------------------------------------------------------------------------


def _answers(status: int, body: bytes) -> Any:
    async def planted(*_: Any) -> ProtocolResponse:
        return ProtocolResponse(status, body)

    return planted


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        (problems.problem(500, "of ours"), "500"),
        (ProtocolResponse(418, b"{}"), "not described"),
        (problems.problem(400, "CANARYFORM is no name"), "repeats what was sent"),
        (problems.problem(400, "nothing was kept"), "0 messages are kept"),
        (ProtocolResponse(400, b'{"title": 1}'), "at \\$"),
    ],
)
def test_a_planted_fault_is_found(
    fuzzing: Fuzzing, monkeypatch: pytest.MonkeyPatch, planted: ProtocolResponse, found: str
) -> None:
    monkeypatch.setattr(messages, "_accept_body", _answers(planted.status, planted.body))
    with pytest.raises(AssertionError, match=found):
        _assert_target_holds(fuzzing, "bodies form first-contact-plus", 1)
