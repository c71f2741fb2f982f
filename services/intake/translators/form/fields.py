"""How each type of field is parsed, and its JSON Schema."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from schemas import nhs_number
from services.intake.translators.form.definition import FieldOf
from services.intake.translators.translator import IssueKind, parse_instant


@dataclass(frozen=True, slots=True)
class ParseError:
    """A value that is not valid for its field."""

    kind: IssueKind
    explanation: str


ANY = FieldOf(label="any", to="person")
"""A field definition for readers that use only the type."""


def _text(longest: int) -> Callable[[Any, FieldOf], Any]:
    def read(value: Any, _: FieldOf) -> Any:
        if not isinstance(value, str) or not value:
            return ParseError("invalid", "must be a string")
        return value if len(value) <= longest else ParseError("too-long", f"is too long: at most {longest} characters")

    return read


def _matching(pattern: str, explanation: str) -> Callable[[Any, FieldOf], Any]:
    form = re.compile(pattern)

    def read(value: Any, _: FieldOf) -> Any:
        plain = value.strip().upper() if isinstance(value, str) else ""
        return plain if form.fullmatch(plain) else ParseError("value", explanation)

    return read


def _lines(value: Any, _: FieldOf) -> Any:
    entries = value.splitlines() if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(one, str) for one in entries):
        return ParseError("invalid", "must be a list of strings")
    lines = [one.strip() for one in entries if one.strip()]
    if len(lines) > 10 or any(len(one) > 300 for one in lines):
        return ParseError("too-long", "is too long: at most 10 lines of 300 characters")
    return lines


def _date(value: Any, _: FieldOf) -> Any:
    try:
        if isinstance(value, str) and len(value) == 10 and value[4:8:3] == "--":
            return date.fromisoformat(value)
    except ValueError:
        pass
    return ParseError("value", "must be a date such as 2026-11-05")


def _moment(value: Any, _: FieldOf) -> Any:
    parsed = parse_instant(value) if isinstance(value, str) else None
    return parsed or ParseError("value", "must be a date and time with an offset, such as 2026-11-05T09:30:00Z")


def _nhs_number(value: Any, _: FieldOf) -> Any:
    digits = nhs_number.normalise(value) if isinstance(value, str) else ""
    if nhs_number.is_valid(digits):
        return digits
    return ParseError("value", "is not a valid NHS number: ten digits with a modulus 11 check digit")


def _postcode(value: Any, field: FieldOf) -> Any:
    plain = "".join(value.split()).upper() if isinstance(value, str) else ""
    if not re.fullmatch(r"[A-Z]{1,2}[0-9][A-Z0-9]?[0-9][A-Z]{2}", plain):
        return ParseError("value", "must be a postcode such as LE11 5AA, or ZZ99 3VZ for no fixed abode")
    return f"{plain[:-3]} {plain[-3:]}"


def _yes_no(value: Any, _: FieldOf) -> Any:
    answer = {"yes": True, "no": False}.get(value) if isinstance(value, str) else value
    return answer if isinstance(answer, bool) else ParseError("value", "must be yes or no")


def _number(value: Any, field: FieldOf) -> Any:
    most = largest(field)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
        return value
    return ParseError("value", f"must be a whole number from 0 to {most}")


def largest(field: FieldOf) -> int:
    """Return the largest number that a field allows."""
    return 999_999 if field.most is None else field.most


def _textphone(value: Any, field: FieldOf) -> Any:
    read = _text(200)(value, field)
    return read if isinstance(read, ParseError) else [{"system": "textphone", "value": read}]


def _choice(value: Any, field: FieldOf) -> Any:
    meaning = field.choices.get(value) if isinstance(value, str) else None
    return meaning or ParseError("value", f"must be one of {', '.join(field.choices)}")


def _flags(value: Any, field: FieldOf) -> Any:
    if not isinstance(value, list) or not all(isinstance(one, str) and one in field.choices for one in value):
        return ParseError("value", f"must be a list of these codes: {', '.join(field.choices)}")
    return [{"code": one, "text": field.choices[one]} for one in dict.fromkeys(value)]


READERS: Mapping[str, Callable[[Any, FieldOf], Any]] = {
    "line": _text(200),
    "prose": _text(5_000),
    "lines": _lines,
    "date": _date,
    "moment": _moment,
    "yes-no": _yes_no,
    "number": _number,
    "nhs-number": _nhs_number,
    "postcode": _postcode,
    "ods": _matching(r"[A-Z0-9]{3,10}", "must be an ODS code such as B81001"),
    "ons": _matching(r"[EWSN][0-9]{8}", "must be an ONS district code such as E07000130"),
    "uprn": _matching(r"[0-9]{1,12}", "must be a UPRN of at most 12 digits"),
    "textphone": _textphone,
    "choice": _choice,
    "flags": _flags,
}


_SOME_TEXT = {"type": "string", "pattern": r"\S"}
SCHEMAS: Mapping[str, dict[str, Any]] = {
    "line": {**_SOME_TEXT, "maxLength": 200},
    "prose": {**_SOME_TEXT, "maxLength": 5_000},
    "lines": {
        "anyOf": [
            {"type": "array", "items": {"type": "string", "maxLength": 300}, "maxItems": 10, "minItems": 1},
            _SOME_TEXT,
        ]
    },
    "date": {"type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    "moment": {"type": "string", "format": "date-time"},
    "yes-no": {"enum": [True, False, "yes", "no"]},
    "number": {"type": "integer", "minimum": 0},
    "nhs-number": {
        "type": "string",
        "pattern": "^[ -]*([0-9][ -]*){10}$",
        "description": "Ten digits with a modulus 11 check digit; blanks are allowed",
    },
    "postcode": {
        "type": "string",
        "pattern": r"^\s*([A-Za-z]\s*){1,2}[0-9]\s*[A-Za-z0-9]?\s*[0-9]\s*([A-Za-z]\s*){2}$",
        "description": "Such as LE11 5AA; ZZ99 3VZ for no fixed abode",
    },
    "ods": {"type": "string", "pattern": "^[A-Za-z0-9]{3,10}$"},
    "ons": {"type": "string", "pattern": "^[EWSN][0-9]{8}$"},
    "uprn": {"type": "string", "pattern": "^[0-9]{1,12}$"},
    "textphone": {**_SOME_TEXT, "maxLength": 200},
}
