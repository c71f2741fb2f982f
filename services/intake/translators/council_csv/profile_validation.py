"""Loads the councils' reviewed files, and says what is wrong in them: by file, line and place, before a row is read."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from schemas.referral import Referral
from services.intake.translators.council_csv.cells import clean, fold
from services.intake.translators.council_csv.dates import has_short_year
from services.intake.translators.council_csv.mapping import ColumnMapping, CouncilMapping
from services.intake.translators.council_csv.targets import FEEDS, TARGETS, accepts_yes_no, may_mean, takes_codes
from services.reference import yaml_files
from services.reference.directory import Catalogue
from services.reference.yaml_files import ConfigError, ConfigFile, ConfigIssue, Loc

LocatedIssues = Iterator[tuple[Loc, str]]
"""Places in a file, and what is wrong there."""

ONLY_IN = {
    "separator": ("needs", "flags", "list"),
    "width": ("reference",),
    "order": ("name",),
    "years_from": ("date", "moment"),
    "needs": ("needs",),
    "need": ("needs",),
    "flags": ("flags",),
    "flag": ("flags",),
}
"""What may be said only of columns of these kinds."""

MANY = ("needs", "flags")
"""Several columns may go there."""

TEXTS = ("choice", "line", "ons", "ods")
"""What may be the same in every row."""


def load(folder: Path, services: Catalogue | None) -> dict[str, CouncilMapping]:
    """Every council's mapping by its name; raises Faulty with the faults of all. Without `services`, any service may be named."""
    files = yaml_files.load_all(folder, CouncilMapping, services)
    issues = [one.issue(*issue) for one in files for issue in issues_in(one.value, one.file)] + list(_alike(files))
    if issues:
        raise ConfigError(issues)
    return {one.value.council: one.value for one in files}


def _alike(files: Sequence[ConfigFile[CouncilMapping]]) -> Iterator[ConfigIssue]:
    """Two councils whose files could not be told from each other, or one partner with two files."""
    for at, one in enumerate(files):
        for other in files[:at]:
            if one.value.signature == other.value.signature:
                yield one.issue(
                    ("columns",), f"the header is the same as in {other.file.name}: one could be taken for the other"
                )
            if one.value.partner == other.value.partner:
                yield one.issue(("partner",), f"has a mapping already, in {other.file.name}")


def issues_in(mapping: CouncilMapping, file: Path) -> LocatedIssues:
    """What is wrong in one file."""
    if mapping.council != file.stem:
        yield ("council",), f"the file is called {file.stem}, and its council must be too"
    yield from _of_file(mapping)
    unknown = {header for header, column in mapping.columns.items() if column.to not in TARGETS}
    for header, column in mapping.columns.items():
        at: Loc = ("columns", header)
        if header in unknown:
            yield (*at, "to"), _no_place(column.to)
        else:
            yield from (((*at, *loc), what) for loc, what in _of_column(mapping, column))
    if not unknown:
        yield from _of_targets(mapping)
    yield from _of_headers(mapping)


def _no_place(place: str) -> str:
    if yaml_files.field_at(Referral, place):
        return f"{place} is told by no column of a council"
    return f"the referral has no {place}"


def _of_file(mapping: CouncilMapping) -> LocatedIssues:
    file = mapping.file
    if {"dd/mm/yyyy", "mm/dd/yyyy"} <= set(file.dates) or {"dd/mm/yy", "mm/dd/yyyy"} <= set(file.dates):
        yield ("file", "dates"), "days and months could be taken for each other: dd/mm and mm/dd stand side by side"
    if any(map(has_short_year, file.dates)) and file.years_from is None:
        yield ("file", "dates"), "years of two digits need years_from"


def _of_column(mapping: CouncilMapping, column: ColumnMapping) -> LocatedIssues:
    for name, kinds in ONLY_IN.items():
        if getattr(column, name) not in (None, {}) and column.kind not in kinds:
            yield (name,), f"{column.to} takes no {name}"
    if column.codes and not takes_codes(column.kind):
        yield ("codes",), f"{column.to} takes no codes"
    if column.kind in ("choice", "status") and not column.codes and not accepts_yes_no(column.to):
        yield ("to",), f"{column.to} needs codes"
    if column.kind == "needs" and bool(column.need) == bool(column.needs):
        yield ("to",), "needs takes either needs, by code, or need, for yes"
    if column.kind == "flags" and bool(column.flag) == bool(column.flags):
        yield ("to",), "risk_flags takes either flags, by code, or flag, for yes"
    if column.kind == "name" and column.order is None:
        yield ("to",), "name needs order"
    if takes_codes(column.kind):
        yield from (
            (("codes", c), f"{v} is not a value of {column.to}")
            for c, v in column.codes.items()
            if not may_mean(column.to, v)
        )
    for name, codes in (("codes", column.codes), ("needs", column.needs), ("flags", column.flags)):
        yield from (((name, code), what) for code, what in _of_codes(mapping, column, list(codes)))


def _of_codes(mapping: CouncilMapping, column: ColumnMapping, codes: list[str]) -> Iterator[tuple[str, str]]:
    before: set[str] = set()
    for code in codes:
        if fold(code) in before:
            yield code, "is ambiguous: it is another code, but for capitals and blanks"
        elif reason := _unreachable(mapping, column, code):
            yield code, f"can never be reached: {reason}"
        before.add(fold(code))


def _unreachable(mapping: CouncilMapping, column: ColumnMapping, code: str) -> str | None:
    if fold(code) in mapping.file.nothing:
        return "this file writes it where nothing is known" if fold(code) else "an empty cell is read as nothing"
    if column.separator and column.separator in code:
        return "it holds the separator"
    if clean(code) != code.strip():
        return "a cell with it would be taken for a formula, or holds what cannot be seen"
    return None if _can_be_written(mapping, code) else f"{mapping.file.encoding} cannot write it"


def _can_be_written(mapping: CouncilMapping, text: str) -> bool:
    try:
        text.encode(mapping.file.codec)
    except UnicodeEncodeError:
        return False
    return mapping.file.quoting == "double" or mapping.file.separator not in text


# ---- columns together -----------------------------------------------------------------------------------------------


def _of_targets(mapping: CouncilMapping) -> LocatedIssues:
    fed: dict[str, str] = {}
    for header, column in mapping.columns.items():
        for place in FEEDS.get(column.to, ()) or (column.to,):
            if (other := fed.setdefault(place, header)) != header and column.kind not in MANY:
                yield ("columns", header, "to"), f"{place} is told by column {other} already"
    yield from _of_address(mapping)
    yield from _missing(mapping)
    for place, value in mapping.constants.items():
        if TARGETS.get(place) not in TEXTS:
            yield ("constants", place), "cannot be the same in every row" if place in TARGETS else _no_place(place)
        elif TARGETS[place] in ("choice", "ons") and not may_mean(place, value):
            yield ("constants", place), f"{value} is not a value of {place}"
        elif place in fed:
            yield ("constants", place), f"is told by column {fed[place]} already"


def _of_address(mapping: CouncilMapping) -> LocatedIssues:
    whole = mapping.column_to("address")
    lines = [header for header, column in mapping.columns.items() if column.to.startswith("person.address.lines.")]
    if whole and lines:
        yield ("columns", lines[0], "to"), f"person.address.lines is told by column {whole} already"
    has_district_column = mapping.column_to("person.address.district") is not None
    if has_district_column != (mapping.district == "column"):
        yield ("district",), "column, and a column to person.address.district: either both or neither"


def _missing(mapping: CouncilMapping) -> LocatedIssues:
    targets = {column.to for column in mapping.columns.values()}
    if "reference" not in targets:
        yield ("columns",), "no column is the reference: rows would have no identity"
    if not targets & {"name", "person.family_name"}:
        yield ("columns",), "no column is a name"
    if "needs" not in targets and not mapping.needs:
        yield ("columns",), "no column says what is asked for, and needs does not either"


def _of_headers(mapping: CouncilMapping) -> LocatedIssues:
    headers: list[tuple[Loc, str]] = [(("columns", header), header) for header in mapping.columns]
    headers += [(("ignored", at), header) for at, header in enumerate(mapping.ignored)]
    counts: Counter[str] = Counter()
    for loc, header in headers:
        counts[fold(header)] += 1
        if counts[fold(header)] > 1:
            yield loc, "stands twice, but for capitals and blanks"
        elif not _can_be_written(mapping, header):
            yield loc, f"{mapping.file.encoding} with this delimiter cannot write it"
