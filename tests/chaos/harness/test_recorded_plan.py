"""A plan is the same after it was recorded and loaded."""

import dataclasses
from pathlib import Path

import pytest

from tests.chaos.harness.command import KEPT_PLANS
from tests.chaos.harness.plan import Plan, generate_plan
from tests.chaos.harness.recorded_plan import RecordedPlan, load, save

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("plan", [generate_plan(7), generate_plan(8), generate_plan(30, brokers=3)])
def test_a_recorded_plan_is_loaded_unchanged(plan: Plan, tmp_path: Path) -> None:
    recorded = RecordedPlan("a defect", plan, ("I1", "I8"), "a direct test")
    save(tmp_path / "one.json", recorded)
    assert load(tmp_path / "one.json") == dataclasses.replace(recorded, plan=dataclasses.replace(plan, name="one"))


def test_a_plan_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "one.json", RecordedPlan("a defect", generate_plan(7)))
    text = (tmp_path / "one.json").read_text()
    (tmp_path / "one.json").write_text(text.replace('"begins_at"', '"begins"'))
    with pytest.raises(TypeError, match="begins"):
        load(tmp_path / "one.json")


def test_each_plan_that_failed_has_a_direct_test_of_its_defect() -> None:
    kept = [load(file) for file in sorted(KEPT_PLANS.glob("*.json"))]
    assert kept
    for recorded in kept:
        assert recorded.about
        assert recorded.test, f"{recorded.plan.name}: name the direct test of its defect"
        file, _, function = recorded.test.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text(), recorded.plan.name
