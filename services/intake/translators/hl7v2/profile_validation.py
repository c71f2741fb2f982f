"""Validate a partner's reviewed file beyond its schema, for `lightbulb directory check`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.referral import Referral
from services.intake.translators.hl7v2.partner_profile import ObservationMeaning, PartnerProfile, SenderMatch, fold
from services.intake.translators.hl7v2.targets import TARGETS, annotation_of
from services.reference import yaml_files
from services.reference.directory import Catalogue
from services.reference.yaml_files import ConfigError, ConfigFile, ConfigIssue


def load(folder: Path, services: Catalogue | None) -> dict[str, PartnerProfile]:
    """Return the profiles by partner; raise ConfigError. Without `services`, any service code is valid."""
    files = yaml_files.load_all(folder, PartnerProfile, services)
    if issues := [issue for one in files for issue in issues_in(one)]:
        raise ConfigError(issues)
    return {one.value.partner: one.value for one in files}


def issues_in(file: ConfigFile[PartnerProfile]) -> Iterator[ConfigIssue]:
    """Yield contradictions, invalid values and settings that have no effect."""
    profile = file.value
    if profile.partner != file.file.stem:
        yield file.issue(("partner",), "must be the name of the file")
    yield from _ambiguous(file)
    yield from _contradictions(file)
    for kind in ("observations", "fields"):
        for code, meaning in getattr(profile, kind).items():
            yield from _meaning_issues(file, (kind, code), meaning)
    yield from _unreachable(file)


# ---- ambiguous codes -----------------------------------------------------------------------------------------------


_CODES = (
    ("local_ids",),
    ("names",),
    ("sexes",),
    ("languages",),
    ("priorities",),
    ("destinations",),
    ("site", "codes"),
    ("needs", "codes"),
    ("reasons", "codes"),
    ("cancels", "codes"),
    ("referrer", "identifiers"),
    ("notes",),
    ("observations",),
)


def _ambiguous(file: ConfigFile[PartnerProfile]) -> Iterator[ConfigIssue]:
    """Yield codes that are equal without case and blanks: only the last one would count."""
    for path in _CODES:
        yield from _alike(file, path, _at(file.value, path) or {})
    for kind in ("observations", "fields"):
        for code, meaning in getattr(file.value, kind).items():
            yield from _alike(file, (kind, code, "values"), meaning.values)
    for index, text_field in enumerate(file.value.reason_fields):
        yield from _alike(file, ("reason_fields", index, "values"), text_field.values)


def _alike(
    file: ConfigFile[PartnerProfile], path: tuple[int | str, ...], codes: Iterable[str]
) -> Iterator[ConfigIssue]:
    originals: dict[str, str] = {}
    for code in codes:
        first = originals.setdefault(fold(code), code)
        if first != code:
            yield file.issue((*path, code), f"is ambiguous: it differs from {first} only in case or blanks")


def _at(value: Any, path: Iterable[str]) -> Any:
    for part in path:
        value = getattr(value, part, None)
    return value


_EXCLUSIVE = (
    ("nhs_types", "local_ids"),
    ("nhs_authorities", "local_ids"),
    ("home_addresses", "temporary_addresses"),
    ("stay_classes", "not_stay_classes"),
)
"""Settings that must not have a code in common: it would mean two things."""


def _contradictions(file: ConfigFile[PartnerProfile]) -> Iterator[ConfigIssue]:
    for one, other in _EXCLUSIVE:
        codes = set(map(fold, getattr(file.value, one)))
        for code in getattr(file.value, other):
            if fold(code) in codes:
                setting = other if other in file.value.model_fields_set else one
                yield file.issue((setting,), f"is a contradiction: {code} is in {one} and {other}")
    if any(place.partition(".")[0] == "PID-3" for place in file.value.nhs_fields):
        yield file.issue(("nhs_fields",), "has no effect for PID-3, which is read by type and authority")


# ---- meanings of observations and fields -----------------------------------------------------------------------------


def _meaning_issues(
    file: ConfigFile[PartnerProfile], at: tuple[str, ...], meaning: ObservationMeaning
) -> Iterator[ConfigIssue]:
    values = {**meaning.values, **({"otherwise": meaning.otherwise} if meaning.otherwise is not None else {})}
    if meaning.to is None:
        yield from _invalid_values(file, at, values, bool)
    elif not yaml_files.field_at(Referral, meaning.to):
        yield file.issue((*at, "to"), f"the referral has no {meaning.to}")
    elif meaning.to not in TARGETS:
        yield file.issue(
            (*at, "to"), f"{meaning.to} cannot be filled from an observation; allowed: {', '.join(TARGETS)}"
        )
    else:
        yield from _target_issues(file, at, meaning, values)


def _target_issues(
    file: ConfigFile[PartnerProfile], at: tuple[str, ...], meaning: ObservationMeaning, values: Mapping[str, Any]
) -> Iterator[ConfigIssue]:
    match TARGETS[meaning.to or ""]:
        case "code" | "consent":
            if not meaning.values:
                yield file.issue(at, "values are required: this place has codes")
            yield from _invalid_values(file, at, values, annotation_of(meaning.to or ""))
        case "yes-no":
            yield from _invalid_values(file, at, values, bool)
        case "text" | "flags" | "prose" | "lines":
            yield from _invalid_values(file, at, values, str)
        case "date" | "needs" | "reason" if values:
            yield file.issue((*at, "values"), "has no effect: this place has dates, or the codes of needs or reasons")


def _invalid_values(
    file: ConfigFile[PartnerProfile], at: tuple[str, ...], values: Mapping[str, Any], takes: Any
) -> Iterator[ConfigIssue]:
    adapter = TypeAdapter(takes)
    for code, value in values.items():
        try:
            adapter.validate_python(value, strict=takes in (bool, str))
        except ValidationError as error:
            path = (*at, code) if code == "otherwise" else (*at, "values", code)
            yield file.issue(path, error.errors(include_input=False, include_url=False)[0]["msg"])


# ---- settings without effect -----------------------------------------------------------------------------------------


def _unreachable(file: ConfigFile[PartnerProfile]) -> Iterator[ConfigIssue]:
    profile = file.value
    targets = {meaning.to for meaning in [*profile.observations.values(), *profile.fields.values()]}
    for name, coded, place in (("needs", profile.needs, "needs"), ("reasons", profile.reasons, "reason.code")):
        if coded.codes and not coded.read_from and place not in targets:
            yield file.issue((name, "codes"), f"has no effect: read_from is empty, and nothing fills {place}")
    if profile.cancels.codes and not profile.cancels.read_from:
        yield file.issue(("cancels", "codes"), "has no effect: read_from is empty")
    for index in _shadowed(profile.senders):
        yield file.issue(("senders", index), "has no effect: an earlier entry matches the same")
    for place in profile.fields:
        if place[:3] in ("MSH", "OBX"):
            yield file.issue(("fields", place), "has no effect: use the other settings of this file for MSH and OBX")


def _shadowed(senders: Sequence[SenderMatch]) -> Iterator[int]:
    """Yield the index of each entry that an earlier one covers."""
    for index, one in enumerate(senders):
        before = senders[:index]
        if any(
            _covers(other.application, one.application) and _covers(other.facility, one.facility) for other in before
        ):
            yield index


def _covers(one: str | None, other: str | None) -> bool:
    return one is None or (other is not None and fold(one) == fold(other))
