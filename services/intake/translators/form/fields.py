"""How each type of field is parsed, and its JSON Schema, which describes a value after `cleaning`."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from schemas import nhs_number
from services.intake.translators import cleaning
from services.intake.translators.form import answers
from services.intake.translators.form.definition import FieldOf
from services.intake.translators.plausibility import NOT_A_NUMBER
from services.intake.translators.translator import IssueKind, parse_instant, postcode


@dataclass(frozen=True, slots=True)
class ParseError:
    """A value that is not valid for its field."""

    kind: IssueKind
    explanation: str


ANY = FieldOf(label="any", to="person")
"""A field definition for readers that use only the type."""


def _text(longest: int, cleaned: Callable[[str], str]) -> Callable[[Any, FieldOf], Any]:
    def read(value: Any, _: FieldOf) -> Any:
        text = cleaned(value) if isinstance(value, str) else ""
        if not text:
            return ParseError("invalid", "must be a string")
        return text if len(text) <= longest else ParseError("too-long", f"is too long: at most {longest} characters")

    return read


_line = _text(200, cleaning.line)


def _matching(pattern: str, explanation: str) -> Callable[[Any, FieldOf], Any]:
    form = re.compile(pattern)

    def read(value: Any, _: FieldOf) -> Any:
        plain = plain_code(value)
        return plain.upper() if form.fullmatch(plain) else ParseError("value", explanation)

    return read


def plain_code(value: Any) -> str:
    """Return a code without invisible characters and blanks at its edges; empty if the value is not one."""
    return cleaning.code(value) or "" if isinstance(value, str) else ""


def _lines(value: Any, _: FieldOf) -> Any:
    entries = cleaning.prose(value).split("\n") if isinstance(value, str) else value
    if not isinstance(entries, list) or not all(isinstance(one, str | None) for one in entries):
        return ParseError("invalid", "must be a list of strings")
    lines = [cleaning.line(one) for one in entries if answers.is_answered(one, "lines")]
    most = entries if isinstance(value, str) else lines
    if len(most) > 10 or any(len(one) > 300 for one in lines):
        return ParseError("too-long", "is too long: at most 10 lines of 300 characters")
    return lines


def _date(value: Any, _: FieldOf) -> Any:
    try:
        if re.fullmatch(_DATE, code := plain_code(value)):
            return date.fromisoformat(code)
    except ValueError:
        pass
    return ParseError("value", "must be a date such as 2026-11-05")


def _moment(value: Any, _: FieldOf) -> Any:
    parsed = parse_instant(code) if re.fullmatch(_MOMENT, code := plain_code(value)) else None
    return parsed or ParseError("value", "must be a date and time with an offset, such as 2026-11-05T09:30:00Z")


def _nhs_number(value: Any, _: FieldOf) -> Any:
    digits = nhs_number.normalise(plain_code(value))
    if nhs_number.is_valid(digits):
        return digits
    return ParseError("value", NOT_A_NUMBER)


def _postcode(value: Any, field: FieldOf) -> Any:
    plain = "".join(plain_code(value).split())
    if not re.fullmatch(r"[A-Za-z]{1,2}[0-9][A-Za-z0-9]?[0-9][A-Za-z]{2}", plain):
        return ParseError("value", "must be a postcode such as LE11 5AA, or ZZ99 3VZ for no fixed abode")
    return postcode(plain)


def _yes_no(value: Any, _: FieldOf) -> Any:
    if answers.is_not_applicable(value):
        return None
    if answers.is_yes(value) or answers.is_no(value):
        return answers.is_yes(value)
    return ParseError("value", "must be yes or no")


def _number(value: Any, field: FieldOf) -> Any:
    most = largest(field)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most and value == int(value):
        return int(value)
    return ParseError("value", f"must be a whole number from 0 to {most}")


def largest(field: FieldOf) -> int:
    """Return the largest number that a field allows."""
    return 999_999 if field.most is None else field.most


def _textphone(value: Any, field: FieldOf) -> Any:
    read = _line(value, field)
    return read if isinstance(read, ParseError) else [{"system": "textphone", "value": read}]


def _choice(value: Any, field: FieldOf) -> Any:
    return field.choices.get(plain_code(value)) or ParseError("value", f"must be one of {', '.join(field.choices)}")


def _flags(value: Any, field: FieldOf) -> Any:
    codes = [plain_code(one) for one in value if answers.is_answered(one)] if isinstance(value, list) else [""]
    if not all(one in field.choices for one in codes):
        return ParseError("value", f"must be a list of these codes: {', '.join(field.choices)}")
    return [{"code": one, "text": field.choices[one]} for one in dict.fromkeys(codes)]


READERS: Mapping[str, Callable[[Any, FieldOf], Any]] = {
    "line": _line,
    "prose": _text(5_000, cleaning.prose),
    "lines": _lines,
    "date": _date,
    "moment": _moment,
    "yes-no": _yes_no,
    "number": _number,
    "nhs-number": _nhs_number,
    "postcode": _postcode,
    "ods": _matching(r"[A-Za-z0-9]{3,10}", "must be an ODS code such as B81001"),
    "ons": _matching(r"[EWSNewsn][0-9]{8}", "must be an ONS district code such as E07000130"),
    "uprn": _matching(r"[0-9]{1,12}", "must be a UPRN of at most 12 digits"),
    "textphone": _textphone,
    "choice": _choice,
    "flags": _flags,
}
"""The reader of each type, which returns the value, None for a value that says nothing, or a ParseError."""

_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_MOMENT = rf"{_DATE}[T ][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}([.][0-9]{{1,9}})?)?(Z|[+-][0-9]{{2}}:?[0-9]{{2}})"


def _texts(pattern: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^{pattern}$", **more}


YES_NO: dict[str, Any] = {
    "anyOf": [
        {"type": "boolean"},
        {"enum": [0, 1]},
        *({"type": "string", "pattern": one} for one in (answers.MEANS_YES, answers.MEANS_NO, answers.MEANS_NOTHING)),
    ]
}
SCHEMAS: Mapping[str, dict[str, Any]] = {
    "line": {"type": "string", "maxLength": 200},
    "prose": {"type": "string", "maxLength": 5_000},
    "lines": {
        "anyOf": [
            {
                "type": "array",
                "items": {"anyOf": [{"type": "string", "maxLength": 300}, {"type": "null"}]},
                "contains": {"type": "string", "not": {"type": "string", "pattern": answers.WITHOUT_LETTERS}},
                "minContains": 0,
                "maxContains": 10,
            },
            _texts(r"([^\r\n]{0,300}(\r\n|\r|\n)){0,9}[^\r\n]{0,300}"),
        ]
    },
    "date": _texts(_DATE, format="date"),
    "moment": _texts(_MOMENT),
    "yes-no": YES_NO,
    "number": {"type": "integer", "minimum": 0},
    "nhs-number": {
        **_texts("[ -]*([0-9][ -]*){10}"),
        "description": "Ten digits with a modulus 11 check digit; blanks are allowed",
    },
    "postcode": {
        **_texts(r"([A-Za-z]\s*){1,2}[0-9]\s*[A-Za-z0-9]?\s*[0-9]\s*([A-Za-z]\s*){2}"),
        "description": "Such as LE11 5AA; ZZ99 3VZ for no fixed abode",
    },
    "ods": _texts("[A-Za-z0-9]{3,10}"),
    "ons": _texts("[EWSNewsn][0-9]{8}"),
    "uprn": _texts("[0-9]{1,12}"),
    "textphone": {"type": "string", "maxLength": 200},
}
