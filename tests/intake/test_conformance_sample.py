"""One in a thousand accepted messages is given to both checks of FHIR conformance; a difference is logged without a value."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
import structlog

from services.intake import conformance_sample
from services.intake.conformance_sample import ONE_IN, ConformanceSample
from services.intake.translators.bars_fhir import compiled
from services.runtime import metrics
from tests.builders.bars import a_bars_message, as_bytes

CHOSEN, OTHER = UUID(int=7 * ONE_IN), UUID(int=7 * ONE_IN + 1)


@pytest.fixture
def looser(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A compiler that does not know the rule that a choice has one type."""
    monkeypatch.setattr(compiled, "_made", {})
    monkeypatch.setattr(compiled, "_rules", lambda model, attributes: None)
    compiled.resource.cache_clear()
    yield
    compiled.resource.cache_clear()


def _two_types() -> dict[str, Any]:
    message = a_bars_message()
    message["entry"][2]["resource"] |= {"deceasedBoolean": True, "deceasedDateTime": "2026-11-05"}
    return message


async def _logged(message_id: UUID, body: bytes) -> list[Any]:
    sample = ConformanceSample()
    with structlog.testing.capture_logs() as lines:
        sample.offer(message_id, body)
        await sample.wait()
    return lines


def _counted() -> float:
    return (
        metrics.REGISTRY.get_sample_value("lightbulb_conformance_differences_total", {"resource_type": "Patient"}) or 0
    )


async def test_a_difference_is_logged_by_type_and_kind_and_counted(looser: None) -> None:
    before = _counted()
    (line,) = await _logged(CHOSEN, as_bytes(_two_types()))
    told = {"event": "fhir_conformance_differs", "resource_type": "Patient", "kind": "invalid", "log_level": "error"}
    assert line == told
    assert _counted() == before + 1


async def test_a_message_that_is_not_of_the_sample_is_not_compared(looser: None) -> None:
    assert await _logged(OTHER, as_bytes(_two_types())) == []


async def test_checks_that_agree_log_nothing() -> None:
    assert await _logged(CHOSEN, as_bytes(a_bars_message())) == []
    assert conformance_sample.differences(as_bytes(_two_types())) == set()
