"""What is wrong with a partner's reviewed file beyond its form: by file, line and place, for `lightbulb directory check`."""

from collections.abc import Iterable, Iterator
from collections.abc import Mapping as MappingOf
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.referral import Referral
from services import reviewed
from services.directory import Catalogue
from services.intake.translators.hl7v2.fills import FILLS, annotation_of
from services.intake.translators.hl7v2.mapping import Mapping, Told, fold
from services.reviewed import Fault, Faulty, Reviewed


def load(folder: Path, services: Catalogue | None) -> dict[str, Mapping]:
    """Every partner's file of a folder, by partner; raises Faulty with every fault of all. Without `services`, any service
    may be named."""
    found = reviewed.load_all(folder, Mapping, services)
    if faults := [fault for one in found for fault in faults_of(one)]:
        raise Faulty(faults)
    return {one.value.partner: one.value for one in found}


def faults_of(file: Reviewed[Mapping]) -> Iterator[Fault]:
    """What contradicts itself, cannot be, or is never reached."""
    mapping = file.value
    if mapping.partner != file.file.stem:
        yield file.fault(("partner",), "the file must be called after its partner")
    yield from _ambiguous(file)
    for kind in ("observations", "fields"):
        for code, told in getattr(mapping, kind).items():
            yield from _meaning_faults(file, (kind, code), told)
    yield from _unreachable(file)


# ---- codes that mean two things ------------------------------------------------------------------------------------


_CODES = (
    ("local_ids",),
    ("sexes",),
    ("languages",),
    ("priorities",),
    ("site", "codes"),
    ("needs", "codes"),
    ("reasons", "codes"),
    ("cancels", "codes"),
    ("referrer", "identifiers"),
    ("notes",),
    ("observations",),
)


def _ambiguous(file: Reviewed[Mapping]) -> Iterator[Fault]:
    """Codes are compared without case and blanks: two that are equal then would mean whichever came last."""
    for path in _CODES:
        yield from _alike(file, path, _at(file.value, path) or {})
    for kind in ("observations", "fields"):
        for code, told in getattr(file.value, kind).items():
            yield from _alike(file, (kind, code, "values"), told.values)
    for index, words in enumerate(file.value.reason_fields):
        yield from _alike(file, ("reason_fields", index, "values"), words.values)


def _alike(file: Reviewed[Mapping], path: tuple[int | str, ...], codes: Iterable[str]) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for code in codes:
        first = seen.setdefault(fold(code), code)
        if first != code:
            yield file.fault((*path, code), f"is ambiguous: but for case and blanks it is {first}")


def _at(value: Any, path: Iterable[str]) -> Any:
    for part in path:
        value = getattr(value, part, None)
    return value


# ---- what observations and fields mean -------------------------------------------------------------------------------


def _meaning_faults(file: Reviewed[Mapping], at: tuple[str, ...], told: Told) -> Iterator[Fault]:
    given = {**told.values, **({"otherwise": told.otherwise} if told.otherwise is not None else {})}
    if told.to is None:
        yield from _wrong_values(file, at, given, bool)
    elif not reviewed.place_in(Referral, told.to):
        yield file.fault((*at, "to"), f"the referral has no {told.to}")
    elif told.to not in FILLS:
        yield file.fault((*at, "to"), f"{told.to} is not filled from an observation; what is: {', '.join(FILLS)}")
    else:
        yield from _target_faults(file, at, told, given)


def _target_faults(
    file: Reviewed[Mapping], at: tuple[str, ...], told: Told, given: MappingOf[str, Any]
) -> Iterator[Fault]:
    match FILLS[told.to or ""]:
        case "code" | "consent":
            if not told.values:
                yield file.fault(at, "the values are needed: this place takes codes")
            yield from _wrong_values(file, at, given, annotation_of(told.to or ""))
        case "yes-no":
            yield from _wrong_values(file, at, given, bool)
        case "text" | "flags" | "prose" | "lines":
            yield from _wrong_values(file, at, given, str)
        case "date" | "needs" | "reason" if given:
            yield file.fault(
                (*at, "values"), "is never reached: this place takes dates, or the codes of needs or reasons"
            )


def _wrong_values(
    file: Reviewed[Mapping], at: tuple[str, ...], given: MappingOf[str, Any], takes: Any
) -> Iterator[Fault]:
    adapter = TypeAdapter(takes)
    for code, value in given.items():
        try:
            adapter.validate_python(value, strict=takes in (bool, str))
        except ValidationError as error:
            path = (*at, code) if code == "otherwise" else (*at, "values", code)
            yield file.fault(path, error.errors(include_input=False, include_url=False)[0]["msg"])


# ---- what is never reached -------------------------------------------------------------------------------------------


def _unreachable(file: Reviewed[Mapping]) -> Iterator[Fault]:
    mapping = file.value
    filled = {told.to for told in [*mapping.observations.values(), *mapping.fields.values()]}
    for name, coded, place in (("needs", mapping.needs, "needs"), ("reasons", mapping.reasons, "reason.code")):
        if coded.codes and not coded.read_from and place not in filled:
            yield file.fault((name, "codes"), f"is never reached: no field is read for it, and nothing fills {place}")
    if mapping.cancels.codes and not mapping.cancels.read_from:
        yield file.fault(("cancels", "codes"), "is never reached: no field is read for it")
    for index, one in enumerate(mapping.senders):
        before = mapping.senders[:index]
        if any(
            _covers(other.application, one.application) and _covers(other.facility, one.facility) for other in before
        ):
            yield file.fault(("senders", index), "is never reached: an entry before it takes the same")
    for place in mapping.fields:
        if place[:3] in ("MSH", "OBX"):
            yield file.fault(
                ("fields", place), "is never reached: MSH and OBX are read by what else this file says of them"
            )


def _covers(one: str | None, other: str | None) -> bool:
    return one is None or (other is not None and fold(one) == fold(other))
