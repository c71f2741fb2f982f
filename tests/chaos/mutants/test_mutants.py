"""Each mutant can be applied in a separate process; a failure to apply it ends the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.harness.faults import FAULTS
from tests.chaos.mutants.catalogue import MUTANTS, changed
from tests.chaos.mutants.mutation_run import PLANS, plan_of, violated

CHILD = Path(__file__).parents[1] / "harness" / "child"
APPLY_ALL = "from tests.chaos.mutants import catalogue; [catalogue.apply(name, {!r}) for name in catalogue.MUTANTS]"
WITHOUT_A_NAME = """
from services.router import store
from tests.chaos.mutants import catalogue
del store.applied
catalogue.apply("no-duplicate-guard", "router")
"""


def python(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *words], env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("service", ["intake", "router", "notifier", "operator"])
def test_every_mutant_of_a_service_is_applied(service: str) -> None:
    ended = python("-c", APPLY_ALL.format(service))
    all_of = (service,) if service == "operator" else (service, "every")
    own = [name for name, mutant in MUTANTS.items() if mutant.service in all_of]
    assert len(own) > 1
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


def test_each_mutant_has_a_plan_and_each_plan_a_mutant() -> None:
    assert {file.stem for file in PLANS.glob("*.json")} == MUTANTS.keys()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutants_plan_names_the_invariant_that_it_violates(name: str) -> None:
    recorded = plan_of(name)
    assert set(recorded.violates) <= {f"I{number}" for number in range(1, 12)}
    assert recorded.violates
    assert recorded.about
    assert {fault.name for fault in recorded.plan.faults} <= FAULTS.keys()
    assert recorded.plan.persons


def test_a_mutant_is_caught_only_by_the_invariant_that_its_plan_names() -> None:
    recorded = plan_of("moving-cursor")
    assert recorded.violates == ("I4",)
    assert violated(recorded, ["I4: rows are unpublished", "I7: did not come to rest"]) == ["I4", "I7"]
    assert violated(recorded, ["I7: did not come to rest"]) == []
    assert violated(recorded, ["checker: I4"]) == []
