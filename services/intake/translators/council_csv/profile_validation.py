"""Load and validate the councils' reviewed files; name each fault by file, line and place."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from schemas.referral import Referral
from services.intake.translators.council_csv.cells import clean, fold
from services.intake.translators.council_csv.dates import has_short_year
from services.intake.translators.council_csv.mapping import ColumnMapping, CouncilMapping
from services.intake.translators.council_csv.targets import (
    FEEDS,
    TARGETS,
    YES_NO,
    accepts_yes_no,
    may_mean,
    takes_codes,
)
from services.reference import yaml_files
from services.reference.directory import Catalogue
from services.reference.yaml_files import ConfigError, ConfigFile, ConfigIssue, Loc

LocatedIssues = Iterator[tuple[Loc, str]]
"""Locations in a file, with the fault there."""

ONLY_IN = {
    "separator": ("needs", "flags", "list", "given-names"),
    "width": ("reference",),
    "order": ("name",),
    "years_from": ("date", "moment"),
    "needs": ("needs",),
    "need": ("needs",),
    "flags": ("flags",),
    "flag": ("flags",),
}
"""Settings that are allowed only for columns of these kinds."""

MANY = ("needs", "flags")
"""Kinds of place that several columns may fill."""

TEXTS = ("choice", "line", "title", "family-name", "ons", "ods")
"""Kinds of place that `constants` may fill."""


def load(folder: Path, services: Catalogue | None) -> dict[str, CouncilMapping]:
    """Return the mappings by council; raise ConfigError. Without `services`, any service code is valid."""
    files = yaml_files.load_all(folder, CouncilMapping, services)
    issues = [one.issue(*issue) for one in files for issue in issues_in(one.value, one.file)] + list(_alike(files))
    if issues:
        raise ConfigError(issues)
    return {one.value.council: one.value for one in files}


def _alike(files: Sequence[ConfigFile[CouncilMapping]]) -> Iterator[ConfigIssue]:
    """Yield a fault for two councils with the same header, and for two files of one partner."""
    for at, one in enumerate(files):
        for other in files[:at]:
            if one.value.signature == other.value.signature:
                yield one.issue(
                    ("columns",),
                    f"the header is the same as in {other.file.name}, so their files cannot be distinguished",
                )
            if one.value.partner == other.value.partner:
                yield one.issue(("partner",), f"already has a mapping in {other.file.name}")


def issues_in(mapping: CouncilMapping, file: Path) -> LocatedIssues:
    """Yield the faults of one file."""
    if mapping.council != file.stem:
        yield ("council",), f"must be {file.stem}, the name of the file"
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
        return f"{place} cannot be filled from a council's file"
    return f"the referral has no {place}"


def _of_file(mapping: CouncilMapping) -> LocatedIssues:
    file = mapping.file
    if {"dd/mm/yyyy", "mm/dd/yyyy"} <= set(file.dates) or {"dd/mm/yy", "mm/dd/yyyy"} <= set(file.dates):
        yield ("file", "dates"), "dd/mm and mm/dd formats together are ambiguous"
    if any(map(has_short_year, file.dates)) and file.years_from is None:
        yield ("file", "dates"), "two-digit years require years_from"
    for tick in file.ticks:
        if fold(tick) in file.nothing or fold(tick) in YES_NO:
            yield ("file", "ticks"), f"{tick} already means yes, no or an empty cell"


def _of_column(mapping: CouncilMapping, column: ColumnMapping) -> LocatedIssues:
    for name, kinds in ONLY_IN.items():
        if getattr(column, name) not in (None, {}) and column.kind not in kinds:
            yield (name,), f"{column.to} does not allow {name}"
    if column.codes and not takes_codes(column.kind):
        yield ("codes",), f"{column.to} does not allow codes"
    if column.kind in ("choice", "status") and not column.codes and not accepts_yes_no(column.to):
        yield ("to",), f"{column.to} requires codes"
    if column.kind == "needs" and bool(column.need) == bool(column.needs):
        yield ("to",), "requires either needs (by code) or need (for yes)"
    if column.kind == "flags" and bool(column.flag) == bool(column.flags):
        yield ("to",), "requires either flags (by code) or flag (for yes)"
    if column.kind == "name" and column.order is None:
        yield ("to",), "name requires order"
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
            yield code, "is ambiguous: it differs from another code only in capitals or blanks"
        elif reason := _unreachable(mapping, column, code):
            yield code, f"can never match: {reason}"
        before.add(fold(code))


def _unreachable(mapping: CouncilMapping, column: ColumnMapping, code: str) -> str | None:
    if fold(code) in mapping.file.nothing:
        return "it is listed in empty" if fold(code) else "an empty cell has no value"
    if column.separator and column.separator in code:
        return "it contains the separator"
    if clean(code) != code.strip():
        return "a cell with it would be read as a formula, or it contains invisible characters"
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
                yield ("columns", header, "to"), f"{place} is already filled by column {other}"
    yield from _of_address(mapping)
    yield from _missing(mapping)
    for place, value in mapping.constants.items():
        if TARGETS.get(place) not in TEXTS:
            yield ("constants", place), "cannot be the same in every row" if place in TARGETS else _no_place(place)
        elif TARGETS[place] in ("choice", "ons") and not may_mean(place, value):
            yield ("constants", place), f"{value} is not a value of {place}"
        elif place in fed:
            yield ("constants", place), f"is already filled by column {fed[place]}"


def _of_address(mapping: CouncilMapping) -> LocatedIssues:
    whole = mapping.column_to("address")
    lines = [header for header, column in mapping.columns.items() if column.to.startswith("person.address.lines.")]
    if whole and lines:
        yield ("columns", lines[0], "to"), f"person.address.lines is already filled by column {whole}"
    has_district_column = mapping.column_to("person.address.district") is not None
    if has_district_column != (mapping.district == "column"):
        yield ("district",), "column, and a column to person.address.district, require each other"


def _missing(mapping: CouncilMapping) -> LocatedIssues:
    targets = {column.to for column in mapping.columns.values()}
    if "reference" not in targets:
        yield ("columns",), "a column to reference is required"
    if not targets & {"name", "person.family_name"}:
        yield ("columns",), "a column to name or person.family_name is required"
    if "needs" not in targets and not mapping.needs:
        yield ("columns",), "a column to needs, or needs of every row, is required"


def _of_headers(mapping: CouncilMapping) -> LocatedIssues:
    headers: list[tuple[Loc, str]] = [(("columns", header), header) for header in mapping.columns]
    headers += [(("ignored", at), header) for at, header in enumerate(mapping.ignored)]
    counts: Counter[str] = Counter()
    for loc, header in headers:
        counts[fold(header)] += 1
        if counts[fold(header)] > 1:
            yield loc, "is repeated (capitals and blanks are ignored)"
        elif not _can_be_written(mapping, header):
            yield loc, f"{mapping.file.encoding} with this delimiter cannot write it"
