"""What fuzzing found once stays mended; its targets take their own seeds; and what must hold is seen where it does not."""

import dataclasses
from collections.abc import Callable
from datetime import date

import pytest

from schemas.case import EndReason
from services.intake.translators.translator import Issue, Rejection, Translated, reject
from tests.contract.translators.adapters import ADAPTERS
from tests.fuzz import __main__ as command
from tests.fuzz import judge
from tests.fuzz.targets import TARGETS, Target

GOOD = ADAPTERS[2]

each = pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)


@each
def test_the_seeds_and_the_inputs_that_failed_before_pass(target: Target) -> None:
    seeds = target.seeds()
    assert len(seeds) >= 10
    for body in (*seeds[:: max(1, len(seeds) // 12)], *(path.read_bytes() for path in target.kept())):
        target.assert_holds(body)


@each
def test_empty_and_tiny_inputs_pass(target: Target) -> None:
    for body in (b"", b"\x00", b"\xff\xff", b"\x01\x00\xff\xfe"):
        target.assert_holds(body)


# ---- what must hold is looked at --------------------------------------------------------------------------------------


def good() -> Translated:
    made = GOOD.translate(GOOD.delivery(GOOD.good()))
    assert isinstance(made, Translated)
    return made


BROKEN: dict[str, Callable[[], object]] = {
    "neither": lambda: None,
    "no fault": lambda: Rejection(()),
    "a value in an explanation": lambda: reject(Issue("PID-5", "value", "Verdigris is no name")),
    "a number in an explanation": lambda: reject(Issue("PID-3", "value", "9990000018 is expected")),
    "a value as a place": lambda: reject(Issue("Verdigris", "value", "is expected")),
    "endless": lambda: reject(*[Issue("row", "value", "is expected")] * 10_000),
    "an id with NUL": lambda: dataclasses.replace(good(), referral_id="a\x00b"),
    "an id that is no UTF-8": lambda: dataclasses.replace(good(), referral_id="\ud800"),
    "an id that no index holds": lambda: dataclasses.replace(good(), message_ids=("x" * 3_000,)),
    "a correlation id of anything": lambda: dataclasses.replace(good(), correlation_id="Ada Vance"),
    "a cancel with a referral": lambda: dataclasses.replace(good(), intent="cancel"),
    "an attachment without its document": lambda: dataclasses.replace(
        good(),
        referral=good().referral.model_copy(update={"attachments": (_Attachment(),)}),  # type: ignore[union-attr]
    ),
}


class _Attachment:
    reference = "0" * 32


@pytest.mark.parametrize("what", BROKEN)
def test_a_violation_is_detected(what: str) -> None:
    with pytest.raises((judge.Broken, AttributeError)):
        judge.assert_outcome(GOOD.delivery(GOOD.good()), BROKEN[what]())


def test_a_cancellation_and_a_referral_pass() -> None:
    delivery = GOOD.delivery(GOOD.good())
    judge.assert_outcome(delivery, good())
    withdrawn = dataclasses.replace(
        good(),
        referral=None,
        intent="cancel",
        cancel_reason=EndReason.CONSENT_WITHDRAWN,
        discharged_on=date(2026, 1, 1),
    )
    judge.assert_outcome(delivery, withdrawn)


def test_the_command_lists_the_target_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--only", "hl7v2,unheard-of"])
    assert ended.value.code == 2
    named = "hl7v2, csv, files, workbooks, forms, bars, meaning, meaning-rows, meaning-forms, frames, http, hostile"
    assert f"there are {named}" in capsys.readouterr().err


def test_without_atheris_the_command_reports_what_does_not_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda _: None)
    assert command.main(["--only", "hl7v2,csv", "--seconds", "ci"]) == 0
    assert "NOT RUN: hl7v2, csv. atheris has packages for x86_64 Linux only" in capsys.readouterr().out
