"""Each mutant can be applied in a process of its own, and one that cannot ends it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.mutants.catalogue import MUTANTS, changed

CHILD = Path(__file__).parents[1] / "harness" / "child"
APPLY_ALL = "from tests.chaos.mutants import catalogue; [catalogue.apply(name, {!r}) for name in catalogue.MUTANTS]"
WITHOUT_A_NAME = """
from services.router import store
from tests.chaos.mutants import catalogue
del store.record_inputs
catalogue.apply("no-duplicate-guard", "router")
"""


def python(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *words], env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("service", ["intake", "router", "notifier"])
def test_every_mutant_of_a_service_is_applied(service: str) -> None:
    ended = python("-c", APPLY_ALL.format(service))
    own = [name for name, mutant in MUTANTS.items() if mutant.service in (service, "every")]
    assert len(own) > 2
    assert ended.stderr.splitlines() == [f"MUTANT APPLIED: {name}" for name in own]


def test_a_name_that_the_product_no_longer_has_ends_the_process() -> None:
    ended = python("-c", WITHOUT_A_NAME)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (70, "MUTANT NOT APPLIED: no-duplicate-guard")


@pytest.mark.parametrize(("mutant", "code"), [("no-such-mutant", 70), ("no-duplicate-guard", 0)])
def test_a_service_starts_with_its_mutant_or_not_at_all(mutant: str, code: int) -> None:
    ended = python("-c", "", "services.router.app", PYTHONPATH=str(CHILD), CHAOS_MUTANT=mutant)
    assert ended.returncode == code
    assert mutant in ended.stderr


def test_a_mutant_that_changes_nothing_is_refused() -> None:
    assert changed(1, 2) == 2
    with pytest.raises(ValueError, match="changes nothing"):
        changed("order by id", "order by id")
