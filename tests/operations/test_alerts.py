"""infra/monitoring/alerts.yaml: one rule for each symptom of docs/operate.md that a metric shows, and none for what does not exist."""

import re
from typing import Any

import pytest
import yaml

from infra.operations.status_check import DAY, HOUR, MINUTE, Limits
from services.runtime import metrics
from services.runtime.settings import CHECKOUT
from tests.operations.promql import Expression, Wrong

[GROUP] = yaml.safe_load((CHECKOUT / "infra" / "monitoring" / "alerts.yaml").read_text())["groups"]
RULES: dict[str, dict[str, Any]] = {rule["alert"]: rule for rule in GROUP["rules"]}
PAGE = (CHECKOUT / "docs" / "operate.md").read_text()
LABELS = {
    name: frozenset(collector._labelnames)  # type: ignore[attr-defined]  # prometheus_client shows labels only of samples that exist
    for name, collector in metrics.REGISTRY._names_to_collectors.items()
    if name.startswith("lightbulb_") and hasattr(collector, "_labelnames")
}


def measured(rule: dict[str, Any]) -> set[str]:
    return Expression(rule["expr"], LABELS).read()


@pytest.mark.parametrize("name", RULES)
def test_a_rule_reads_metrics_that_exist_and_leads_to_a_section(name: str) -> None:
    rule = RULES[name]
    assert measured(rule)
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    page, _, section = rule["annotations"]["runbook"].partition("#")
    assert page == "docs/operate.md"
    assert section in {re.sub(r"[^\w]+", "-", heading.lower()) for heading in re.findall(r"^#+ (.+)$", PAGE, re.M)}
    kept = {label for by in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in by.split(", ")}
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert shown <= kept or (rule["expr"].startswith("absent") and shown == {"service"})


def test_every_symptom_with_a_metric_has_a_rule_and_every_rule_a_symptom() -> None:
    rows = [set(re.findall(r"`(lightbulb_[a-z_]+)", row)) for row in re.findall(r"^\| .+\|$", PAGE, re.M)]
    symptoms = [named for row in rows if (named := row & LABELS.keys())]
    assert len(symptoms) >= 20
    for named in symptoms:
        assert any(named & measured(rule) for rule in RULES.values()), named
    for name, rule in RULES.items():
        assert any(named & measured(rule) for named in symptoms), name


def test_the_limits_are_those_of_status_check() -> None:
    limits = Limits()
    for name, limit in {
        "LightbulbRecordsWait": limits.late_minutes * MINUTE,
        "LightbulbEventsNotPublished": limits.late_minutes * MINUTE,
        "LightbulbLag": limits.lag,
        "LightbulbCaseNotAccepted": limits.unaccepted_days * DAY,
        "LightbulbFeedbackLate": limits.feedback_hours * HOUR,
    }.items():
        assert RULES[name]["expr"].endswith(f" > {limit}"), name
    assert RULES["LightbulbCertificateEnds"]["expr"].endswith(f" < {limits.ends_days} * {DAY}")


@pytest.mark.parametrize(
    "expression",
    [
        "max(lightbulb_no_such_metric) > 0",
        'lightbulb_feedback{status="failed"} > 0',
        "lightbulb_feedback{state=failed} > 0",
        "max by (hub) (lightbulb_feedback) > 0",
        "max(lightbulb_feedback > 0",
        "max(lightbulb_feedback)) > 0",
        "increase(lightbulb_messages_total) > 0",
        "increase(lightbulb_messages_total[5]) > 0",
        "absent(lightbulb_feedback[5m])",
        "median(lightbulb_feedback) > 0",
        "lightbulb_feedback >",
        "lightbulb_feedback 0",
        "lightbulb_feedback ; 0",
    ],
)
def test_a_wrong_expression_is_found(expression: str) -> None:
    with pytest.raises(Wrong):
        Expression(expression, LABELS).read()
