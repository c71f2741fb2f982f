"""Which media types a client accepts, as RFC 9110 reads its Accept lines."""

import pytest
from starlette.requests import Request

from services.intake.http import headers as sent

FHIR = "application/fhir+json"


def _accepts(*lines: str) -> bool:
    request = Request({"type": "http", "headers": [(b"accept", line.encode()) for line in lines]})
    return sent.accepts(sent.first_values(request), FHIR)


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("",),
        (" , ",),
        ("*/*",),
        ("application/*;q=0.1",),
        ("text/html", FHIR),
        ("text/html, Application/FHIR+JSON; version=1",),
        ('text/html;a="x, y\\"z", application/fhir+json',),
        (f"{FHIR};q=0", f"{FHIR};q=0.5"),
        ("application/*;q=0", FHIR),
    ],
)
def test_a_range_that_has_the_type_is_found_on_any_line(lines: tuple[str, ...]) -> None:
    assert _accepts(*lines)


@pytest.mark.parametrize(
    "lines",
    [
        ("text/html",),
        ("text/html", "image/*"),
        (f"{FHIR};q=0",),
        (f"{FHIR} ; Q=0.000",),
        ("*/*;q=0",),
        ("*/*", "application/*;q=0"),
        (f"*/*, {FHIR};q=0",),
    ],
)
def test_a_type_that_is_not_named_or_has_weight_0_is_not_accepted(lines: tuple[str, ...]) -> None:
    assert not _accepts(*lines)


def test_of_another_repeated_header_the_first_value_counts() -> None:
    request = Request({"type": "http", "headers": [(b"x-request-id", b"a"), (b"x-request-id", b"b")]})
    assert sent.first_values(request) == {"x-request-id": "a"}
