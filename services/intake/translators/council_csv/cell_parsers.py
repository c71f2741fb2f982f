"""Parsers of cleaned cells, by the kind of place that they fill. A cell that cannot be parsed gives a `ParseError`."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from services.intake import limits
from services.intake.translators import cleaning, plausibility
from services.intake.translators.council_csv import addresses, dates, names
from services.intake.translators.council_csv.cells import GROUPED, ValueWithWarnings, fold, whole
from services.intake.translators.council_csv.mapping import ColumnMapping, CsvFile
from services.intake.translators.council_csv.targets import CellKind
from services.intake.translators.form.fields import ANY, READERS, ParseError
from services.intake.translators.translator import unique

Meaning = TypeVar("Meaning")
Reader = Callable[[str, ColumnMapping, CsvFile], Any]

NO_REFERENCE = ParseError("value", "is what is entered if there is no reference: give each row a reference of its own")
IS_A_DATE = ParseError(
    "value", "is a date, into which a spreadsheet may have changed it: format the column as text and export again"
)
_IS_A_DATE = re.compile(
    r"(?:[0-9]{1,2}[/.-][0-9]{1,2}[/.-](?:19|20)[0-9]{2}|(?:19|20)[0-9]{2}-[0-9]{2}-[0-9]{2})(?:[T ][0-9:.]+)?"
    r"|[0-9]{1,2}[- ](?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)(?:[- ](?:[0-9]{2}){1,2})?"
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)-[0-9]{2}",
    re.IGNORECASE,
)
_SEPARATED = re.compile(r"^[+-]?[0-9][0-9 .,'\u2019]*$")


def _line(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    return READERS["line"](" ".join(text.split()), ANY)


def _prose(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    if len(text) > limits.NOTE_CHARACTERS:
        return ParseError("too-long", f"is too long: at most {limits.NOTE_CHARACTERS:,} characters")
    return text


def _list(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    parts = map(cleaning.line, text.split(column.separator) if column.separator else text.split())
    return READERS["lines"]([part for part in parts if part], ANY)


def reference(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    """Return the row's reference, with the leading zeros that a spreadsheet removed."""
    plain = whole(" ".join(text.split()))
    if isinstance(plain, ParseError):
        return plain
    if column.width and not plain.isdigit() and _SEPARATED.match(plain):
        return GROUPED
    if _IS_A_DATE.fullmatch(plain):
        return IS_A_DATE
    if cleaning.is_nothing(plain) or not plain.strip("0"):
        return NO_REFERENCE
    if len(plain) > limits.REFERENCE_CHARACTERS:
        return ParseError("too-long", f"is too long: at most {limits.REFERENCE_CHARACTERS} characters")
    return plain.zfill(column.width) if column.width and plain.isascii() and plain.isdigit() else plain


def _number(kind: CellKind) -> Reader:
    """Return the parser of numbers that a spreadsheet may have rounded or given a decimal point."""

    def read(text: str, column: ColumnMapping, file: CsvFile) -> Any:
        plain = whole(text)
        return plain if isinstance(plain, ParseError) else READERS[kind](plain, ANY)

    return read


def _phone(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    """Return a telephone number as given, with the leading zero or plus that a spreadsheet removed."""
    plain = whole(" ".join(text.split()))
    if isinstance(plain, ParseError):
        return plain
    digits = plain.replace(" ", "")
    if digits.isascii() and digits.isdigit() and not digits.startswith("0"):
        if len(digits) in (9, 10):
            plain = f"0{plain}"
        elif len(digits) == 12 and digits.startswith("44"):
            plain = f"+{plain}"
    return READERS["line"](plain, ANY)


def _textphone(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    number = _phone(text, column, file)
    return number if isinstance(number, ParseError) else READERS["textphone"](number, ANY)


def _passed_on(kind: str) -> Reader:
    return lambda text, column, file: READERS[kind](text, ANY)


def _postcode(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    read = READERS["postcode"](text, ANY)
    is_certain = isinstance(read, ParseError) or plausibility.has_postcode_form(read)
    return read if is_certain else ValueWithWarnings(read, (plausibility.NO_POSTCODE_FORM,))


def _date(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    parsed = dates.read(text, file.dates, column.years_from or file.years_from)
    return parsed.date() if parsed and dates.is_plausible(parsed) else _no_date(text, file)


def _moment(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    return dates.moment(text, file.dates, column.years_from or file.years_from) or _no_date(text, file)


def _no_date(text: str, file: CsvFile) -> ParseError:
    what = "is a year or another number, not a date: it" if dates.is_number(text) else ""
    return ParseError("value", f"{what} must be a date in the format of this file: {', '.join(file.dates)}".lstrip())


# ---- codes ----------------------------------------------------------------------------------------------------------


def _coded(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    meaning = _meaning(column.meaning, text)
    if meaning is None and column.takes_ticks and fold(text) in file.ticked:
        return "yes"
    return meaning or ParseError("value", f"must be one of {_listed(column.codes or ('yes', 'no'))}")


def _yes_no(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    answer = _coded(text, column, file)
    return answer if isinstance(answer, ParseError) else answer == "yes"


def _ons(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    return _coded(text, column, file) if column.codes else READERS["ons"](text, ANY)


def _needs(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    """Return the needs in a column of codes, or in a column that is yes or no."""
    if column.need:
        answer = _yes_no(text, column, file)
        return answer if isinstance(answer, ParseError) else [column.need] if answer else []
    needs = [_meaning(column.asks, code) for code in _codes(text, column)]
    return (
        needs
        if needs and all(needs)
        else ParseError("value", f"must be one of {_listed(column.needs)}{_between(column)}")
    )


def _flags(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    """Return the risk flags in a column of codes, or in a column that is yes or no."""
    if column.flag:
        answer = _yes_no(text, column, file)
        return answer if isinstance(answer, ParseError) else [(column.flag.code, column.flag.text)] if answer else []
    flags = [_meaning(column.warns, code) for code in _codes(text, column)]
    return (
        flags
        if flags and all(flags)
        else ParseError("value", f"must be one of {_listed(column.flags)}{_between(column)}")
    )


def _meaning(meanings: Mapping[str, Meaning], code: str) -> Meaning | None:
    """Return the meaning of a code; that of 1 if a spreadsheet wrote 1.0."""
    plain = whole(code)
    return None if isinstance(plain, ParseError) else meanings.get(fold(plain))


def _codes(text: str, column: ColumnMapping) -> list[str]:
    parts = text.split(column.separator) if column.separator else [text]
    return unique([part.strip() for part in parts if part.strip()])


def _between(column: ColumnMapping) -> str:
    return f"; separate several codes with {column.separator}" if column.separator else ""


def _listed(codes: Any) -> str:
    return ", ".join(codes)


# ---- whole names and addresses --------------------------------------------------------------------------------------


def _name(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    return names.read(text, column.order or "surname-last")


def _part_of_name(read: Reader) -> Reader:
    """Return the parser of a title, a family name or given names in a column of their own."""

    def read_part(text: str, column: ColumnMapping, file: CsvFile) -> Any:
        problem = names.problem_of_part(text)
        if isinstance(problem, ParseError):
            return problem
        value = read(text, column, file)
        return ValueWithWarnings(value, problem) if problem and not isinstance(value, ParseError) else value

    return read_part


def _address(text: str, column: ColumnMapping, file: CsvFile) -> Any:
    return {"no_fixed_abode": True} if fold(text) in file.nowhere else addresses.read(text)


OF_KIND: Mapping[CellKind, Reader] = {
    "reference": reference,
    "moment": _moment,
    "status": _coded,
    "name": _name,
    "title": _part_of_name(_line),
    "family-name": _part_of_name(_line),
    "given-names": _part_of_name(_list),
    "address": _address,
    "line": _line,
    "prose": _prose,
    "list": _list,
    "date": _date,
    "yes-no": _yes_no,
    "nhs-number": _number("nhs-number"),
    "postcode": _postcode,
    "phone": _phone,
    "textphone": _textphone,
    "uprn": _number("uprn"),
    "ods": _passed_on("ods"),
    "ons": _ons,
    "choice": _coded,
    "needs": _needs,
    "flags": _flags,
}
"""Parsers by kind of place."""
