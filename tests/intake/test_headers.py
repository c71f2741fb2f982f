"""Which media types a client accepts, as RFC 9110 reads its Accept lines."""

from uuid import uuid4

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
    request = Request({"type": "http", "headers": [(b"x-other", b"a"), (b"x-other", b"b")]})
    assert sent.first_values(request) == {"x-other": "a"}


@pytest.mark.parametrize("name", sent.IDS)
def test_two_values_of_an_id_are_none_and_the_same_one_twice_is_one(name: str) -> None:
    ids = {other.lower(): str(uuid4()) for other in sent.IDS}
    given = [(key.encode(), value.encode()) for key, value in ids.items()]
    again = [*given, (name.lower().encode(), ids[name.lower()].encode())]
    other = [*given, (name.lower().encode(), str(uuid4()).encode())]
    assert sent.bars_issues(sent.first_values(Request({"type": "http", "headers": again})), ()) == ()
    (issue,) = sent.bars_issues(sent.first_values(Request({"type": "http", "headers": other})), ())
    assert issue.place == f"header {name.lower()}"


@pytest.mark.parametrize(
    ("parameters", "readable"),
    [
        ("", True),
        ("; version=1.1.0", True),
        ("; version=1", True),
        ("; charset=utf-8; fhirVersion=4.0", True),
        ("; version=2", False),
        ("; version=v2.0", False),
        ("; version=1.0.0; version=2.0.0", False),
        ("; fhirVersion=5.0", False),
        ("; fhirVersion=3.0; version=1.0.0", False),
    ],
)
def test_a_version_of_bars_or_fhir_that_is_stated_must_be_supported(parameters: str, readable: bool) -> None:
    assert sent.is_readable_version(FHIR + parameters) is readable
