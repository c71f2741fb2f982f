"""Each translator turns the input of each golden pair into its output."""

import json
from pathlib import Path

import pytest

from tests.contract.translators.adapters import Adapter
from tests.contract.translators.golden_pairs import CASES, FULL, outcome_of


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.stem}")
def test_the_message_is_translated_as_the_expected_file_states(case: Path) -> None:
    assert outcome_of(case) == json.loads(case.with_suffix(".out.json").read_text())


@pytest.mark.parametrize("adapter", FULL.values(), ids=lambda adapter: adapter.name)
def test_every_translator_has_golden_pairs_of_each_outcome(adapter: Adapter) -> None:
    outcomes = {next(iter(outcome_of(case))) for case in CASES if case.parent.name == adapter.name}
    assert outcomes == {"translated", "refused"}
